package control

import "fairlead/schema"

var configMapRow = Row{
	Kind:       schema.KindConfigMap,
	Controller: controllerCell{None: noController},
	Created:    createdCell{None: asWritten},
	Remove:     removeCell{None: justDeleted},
	Dependents: dependentsCell{None: nothingNeeds},
	Collect:    collectCell{None: needsNothing},
	Done:       doneCell{None: neverDone},
	Configured: configuredCell{None: takenOver},
	StandIn:    standInCell{None: noStandIn},
}
