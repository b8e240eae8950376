package schema

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// KindConfigMap is the kind of Kubernetes' ConfigMap.
const KindConfigMap Kind = "ConfigMap"

var configMapRow = Row{
	KindInfo: KindInfo{
		Kind: KindConfigMap, Version: "v1", Resource: "configmaps", Singular: "configmap", Short: []string{"cm"},
		Namespaced: true, Desired: true, New: func() Object { return &corev1.ConfigMap{} },
	},
	Name:       subdomain,
	Supported:  supportedCell{Do: []string{"data", "binaryData", "immutable"}},
	Defaults:   defaultsCell{None: noDefaults},
	Judge:      judgeCell{Do: func(p *problems, obj Object) { p.configMap(obj.(*corev1.ConfigMap)) }},
	Update:     updateCell{Do: updateConfigMap},
	Work:       workCell{None: neverDone},
	Pods:       podsCell{None: noPods},
	References: referencesCell{None: namesNothing},
	Data:       dataCell{Do: Data{Keys: keysOfConfigMap, NoEnvironment: noEnvironmentOfConfigMap}},
	Backends:   backendsCell{None: noBackends},
	Claims:     claimsCell{None: claimsNone},
	Declares:   declaresCell{None: declaresNone},
	Rights:     rightsCell{None: noRights},
	Owns:       ownsCell{None: ownsNothing},
	Carry:      carryCell{None: noStatus},
	Memory:     memoryCell{Do: Memory{Lean: unversioned}},
	Whole:      wholeCell{None: anyIsWhole},
}

func (p *problems) configMap(c *corev1.ConfigMap) {
	size := 0
	for _, key := range sortedKeys(c.Data) {
		size += len(key) + len(c.Data[key])
		p.dataKey("data["+key+"]", key)
		p.encrypted("data["+key+"]", c.Data[key])
		if _, twice := c.BinaryData[key]; twice {
			p.add("binaryData["+key+"]", "key %q is in data too", key)
		}
	}
	for _, key := range sortedKeys(c.BinaryData) {
		size += len(key) + len(c.BinaryData[key])
		p.dataKey("binaryData["+key+"]", key)
	}
	p.data(size, len(c.Data)+len(c.BinaryData))
}

// updateConfigMap keeps the data of an immutable one.
func updateConfigMap(p *problems, old, new Object) {
	p.immutableData(old, new, isTrue(old.(*corev1.ConfigMap).Immutable), isTrue(new.(*corev1.ConfigMap).Immutable))
}

func keysOfConfigMap(obj Object) []string {
	c := obj.(*corev1.ConfigMap)
	keys := append(sortedKeys(c.Data), sortedKeys(c.BinaryData)...)
	slices.Sort(keys)
	return keys
}

func noEnvironmentOfConfigMap(obj Object, key string) (bad, why string) {
	c := obj.(*corev1.ConfigMap)
	if _, binary := c.BinaryData[key]; binary {
		return key, "is binaryData, which environments are not made from: " + asFile
	}
	if bad, found := firstWithNUL(c.Data, key, strings.IndexByte); found {
		return bad, hasNUL
	}
	return "", ""
}
