package nodeagent

import "fairlead/schema/wire"

// everyFamily is what differs from nothing.
var everyFamily = Families{Head: true, Peers: true, Pods: true, Data: true, Services: true}

// FamiliesOf says by the item families of wire.Items which parts changed.
func FamiliesOf(changed map[string]bool) Families {
	return Families{
		Head: changed["node"], Peers: changed["peers"], Pods: changed[wire.FamilyPods],
		Data: changed["configMaps"] || changed["binaryKeys"] || changed["secrets"], Services: changed["services"],
		Records: changed[wire.FamilyRecords] || changed[wire.FamilySeals],
	}
}

func (f Families) or(g Families) Families {
	return Families{
		Head: f.Head || g.Head, Peers: f.Peers || g.Peers, Pods: f.Pods || g.Pods,
		Data: f.Data || g.Data, Services: f.Services || g.Services, Records: f.Records || g.Records,
	}
}

// After joins u to an update before it that nobody took yet.
func (u Update) After(before Update) Update {
	u.Logs = append(before.Logs, u.Logs...)
	u.Changed = before.Changed.or(u.Changed)
	if u.Work == nil {
		u.Work, u.Items, u.Version = before.Work, before.Items, before.Version
	}
	return u
}
