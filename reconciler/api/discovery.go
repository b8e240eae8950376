package api

import (
	"cmp"
	"mime"
	"net/http"
	"slices"
	"strings"

	discoveryv2 "k8s.io/api/apidiscovery/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead/schema"
)

// groupVersion is one API group, which has one version here, and what
// discovery says is in it.
type groupVersion struct {
	group, version string
	resources      []metav1.APIResource
}

// groups is the discovery tree: Kubernetes' core group, then the others by name.
var groups = func() []groupVersion {
	var out []groupVersion
	add := func(k schema.KindInfo, r metav1.APIResource) {
		i := slices.IndexFunc(out, func(g groupVersion) bool { return g.group == k.Group && g.version == k.Version })
		if i < 0 {
			i = len(out)
			out = append(out, groupVersion{group: k.Group, version: k.Version})
		}
		r.Kind = string(k.Kind)
		r.Namespaced = k.Namespaced
		out[i].resources = append(out[i].resources, r)
	}
	for _, res := range resources {
		add(res.KindInfo, metav1.APIResource{
			Name: res.Resource, SingularName: cmp.Or(res.Singular, strings.ToLower(string(res.Kind))),
			Verbs: metav1.Verbs{"get", "list", "watch"}, ShortNames: res.Short, Categories: res.categories(),
		})
		if res.Logs {
			add(res.KindInfo, metav1.APIResource{Name: res.Resource + "/log", Verbs: metav1.Verbs{"get"}})
		}
	}
	for _, r := range reviews {
		add(r, metav1.APIResource{Name: r.Resource, SingularName: strings.ToLower(string(r.Kind)), Verbs: metav1.Verbs{"create"}})
	}
	slices.SortStableFunc(out, func(a, b groupVersion) int { return cmp.Compare(a.group, b.group) })
	return out
}()

func (g groupVersion) discovery() metav1.GroupVersionForDiscovery {
	return metav1.GroupVersionForDiscovery{GroupVersion: strings.TrimPrefix(g.group+"/"+g.version, "/"), Version: g.version}
}

func (g groupVersion) apiGroup() metav1.APIGroup {
	v := g.discovery()
	return metav1.APIGroup{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"},
		Name:     g.group, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v,
	}
}

// serveCoreVersions answers /api, serveGroups /apis; both in the aggregated form
// where the client takes it.
func (s *Server) serveCoreVersions(w http.ResponseWriter, r *http.Request) {
	if f, ok := aggregatedForm(r); ok {
		f.write(w, func(g groupVersion) bool { return g.group == "" })
		return
	}
	writeJSON(w, http.StatusOK, metav1.APIVersions{
		TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"},
		ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{},
	})
}

func (s *Server) serveGroups(w http.ResponseWriter, r *http.Request) {
	if f, ok := aggregatedForm(r); ok {
		f.write(w, func(g groupVersion) bool { return g.group != "" })
		return
	}
	list := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
	for _, g := range groups {
		if g.group != "" {
			list.Groups = append(list.Groups, g.apiGroup())
		}
	}
	writeJSON(w, http.StatusOK, list)
}

func (s *Server) serveGroup(w http.ResponseWriter, r *http.Request) {
	for _, g := range groups {
		if g.group == r.PathValue("group") {
			writeJSON(w, http.StatusOK, g.apiGroup())
			return
		}
	}
	writeError(w, errNoPath(r))
}

func (s *Server) serveResourceList(w http.ResponseWriter, r *http.Request) {
	group, version := r.PathValue("group"), cmp.Or(r.PathValue("version"), "v1")
	for _, g := range groups {
		if g.group == group && g.version == version {
			writeJSON(w, http.StatusOK, metav1.APIResourceList{
				TypeMeta:     metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"},
				GroupVersion: g.discovery().GroupVersion, APIResources: g.resources,
			})
			return
		}
	}
	writeError(w, errNoPath(r))
}

// aggregateForm is the version of apidiscovery.k8s.io a client asked for.
type aggregateForm string

// aggregatedForm reports whether the client takes the whole tree at once.
func aggregatedForm(r *http.Request) (aggregateForm, bool) {
	for clause := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		kind, params, err := mime.ParseMediaType(clause)
		if err != nil || kind != "application/json" {
			continue
		}
		if params["as"] == "" {
			return "", false
		}
		if v := params["v"]; params["as"] == "APIGroupDiscoveryList" && params["g"] == discoveryv2.GroupName && (v == "v2" || v == "v2beta1") {
			return aggregateForm(v), true
		}
	}
	return "", false
}

// write answers with the groups that are in. v2beta1 has v2's shape. The content
// type repeats the form, or clients take the answer for the plain one.
func (f aggregateForm) write(w http.ResponseWriter, in func(groupVersion) bool) {
	list := discoveryv2.APIGroupDiscoveryList{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: discoveryv2.GroupName + "/" + string(f)},
		Items:    []discoveryv2.APIGroupDiscovery{},
	}
	for _, g := range groups {
		if in(g) {
			list.Items = append(list.Items, g.aggregate())
		}
	}
	data, err := marshal(list)
	if err != nil {
		writeError(w, err)
		return
	}
	contentType := "application/json;g=" + discoveryv2.GroupName + ";v=" + string(f) + ";as=APIGroupDiscoveryList"
	writeBody(w, http.StatusOK, contentType, data)
}

func (g groupVersion) aggregate() discoveryv2.APIGroupDiscovery {
	v := discoveryv2.APIVersionDiscovery{Version: g.version, Freshness: discoveryv2.DiscoveryFreshnessCurrent}
	for _, r := range g.resources {
		kind := &metav1.GroupVersionKind{Group: g.group, Version: g.version, Kind: r.Kind}
		if parent, sub, ok := strings.Cut(r.Name, "/"); ok {
			last := &v.Resources[len(v.Resources)-1]
			if last.Resource != parent {
				panic("api: subresource " + r.Name + " does not follow its resource")
			}
			last.Subresources = append(last.Subresources, discoveryv2.APISubresourceDiscovery{Subresource: sub, ResponseKind: kind, Verbs: r.Verbs})
			continue
		}
		scope := discoveryv2.ScopeCluster
		if r.Namespaced {
			scope = discoveryv2.ScopeNamespace
		}
		v.Resources = append(v.Resources, discoveryv2.APIResourceDiscovery{
			Resource: r.Name, ResponseKind: kind, Scope: scope, SingularResource: r.SingularName,
			Verbs: r.Verbs, ShortNames: r.ShortNames, Categories: r.Categories,
		})
	}
	return discoveryv2.APIGroupDiscovery{ObjectMeta: metav1.ObjectMeta{Name: g.group}, Versions: []discoveryv2.APIVersionDiscovery{v}}
}
