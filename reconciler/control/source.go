package control

import "fairlead/schema"

var sourceRow = Row{
	Kind:       schema.KindSource,
	Controller: controllerCell{None: "the loop follows it, and its revisions tell of it"},
	Created:    createdCell{None: asWritten},
	Carry:      carryCell{Do: carrySource},
	Remove:     removeCell{None: justDeleted},
	Dependents: dependentsCell{None: nothingNeeds},
	Collect:    collectCell{None: needsNothing},
	Configured: configuredCell{Do: "the master's configuration, which Git cannot change"},
	Memory:     memoryCell{Do: Memory{Lean: all}},
	Whole:      wholeCell{Do: wholeSource},
	StandIn:    standInCell{None: noStandIn},
}

func carrySource(live, next schema.Object) {
	next.(*schema.Source).Status = live.(*schema.Source).Status
}

func wholeSource(obj schema.Object) bool {
	spec := &obj.(*schema.Source).Spec
	return spec.Interval != nil && spec.ProgressDeadline != nil
}
