package control

import "fairlead/schema"

var sourceRow = Row{
	Kind:       schema.KindSource,
	Controller: controllerCell{None: "the loop follows it, and its revisions tell of it"},
	Created:    createdCell{None: asWritten},
	Remove:     removeCell{None: justDeleted},
	Dependents: dependentsCell{None: nothingNeeds},
	Collect:    collectCell{None: needsNothing},
	Done:       doneCell{None: neverDone},
	Configured: configuredCell{Do: "the master's configuration, which Git cannot change"},
	StandIn:    standInCell{None: noStandIn},
}
