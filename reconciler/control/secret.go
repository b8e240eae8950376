package control

import "fairlead/schema"

var secretRow = Row{
	Kind:       schema.KindSecret,
	Controller: controllerCell{None: noController},
	Created:    createdCell{None: asWritten},
	Carry:      carryCell{None: noStatus},
	Remove:     removeCell{None: justDeleted},
	Dependents: dependentsCell{None: nothingNeeds},
	Collect:    collectCell{None: needsNothing},
	Configured: configuredCell{None: takenOver},
	Memory:     memoryCell{Do: Memory{Lean: unversioned}},
	Whole:      wholeCell{None: anyIsWhole},
	StandIn:    standInCell{None: noStandIn},
}
