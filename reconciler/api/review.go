package api

import (
	"io"
	"net/http"
	"slices"
	"sync"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"

	"fairlead/schema"
)

// reviews are the questions clients ask by POST: who am I, what may I do. They
// are answered and kept nowhere.
var reviews = []schema.KindInfo{
	{Kind: "SelfSubjectReview", Group: authenticationv1.GroupName, Version: "v1", Resource: "selfsubjectreviews"},
	{Kind: "SelfSubjectAccessReview", Group: authorizationv1.GroupName, Version: "v1", Resource: "selfsubjectaccessreviews"},
	{Kind: "SelfSubjectRulesReview", Group: authorizationv1.GroupName, Version: "v1", Resource: "selfsubjectrulesreviews"},
}

// reviewDecoder reads questions in JSON and in protobuf, as newer clients send
// them.
var reviewDecoder = sync.OnceValue(func() runtime.Decoder {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{authorizationv1.AddToScheme, authenticationv1.AddToScheme} {
		if err := add(s); err != nil {
			panic("api: " + err.Error())
		}
	}
	return serializer.NewCodecFactory(s).UniversalDeserializer()
})

func (s *Server) serveReview(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		writeError(w, badBody("read review", err))
		return
	}
	obj, gvk, err := reviewDecoder().Decode(body, nil, nil)
	if err != nil {
		writeError(w, apierrors.NewBadRequest("read review: "+err.Error()))
		return
	}
	known := slices.ContainsFunc(reviews, func(k schema.KindInfo) bool {
		return k.GVK() == *gvk && r.URL.Path == "/apis/"+k.APIVersion()+"/"+k.Resource
	})
	if !known {
		writeError(w, apierrors.NewBadRequest(gvk.String()+" is not asked at "+r.URL.Path))
		return
	}
	obj.GetObjectKind().SetGroupVersionKind(*gvk)
	switch review := obj.(type) {
	case *authenticationv1.SelfSubjectReview:
		c := callerOf(r)
		review.Status.UserInfo = authenticationv1.UserInfo{Username: c.name, Groups: []string{"fairlead:" + c.kind, "system:authenticated"}}
	case *authorizationv1.SelfSubjectAccessReview:
		review.Status = judgeAccess(review.Spec)
	case *authorizationv1.SelfSubjectRulesReview:
		review.Status = rules()
	}
	writeJSON(w, http.StatusCreated, obj)
}

var readVerbs = []string{"get", "list", "watch"}

// judgeAccess allows reading and nothing else.
func judgeAccess(spec authorizationv1.SelfSubjectAccessReviewSpec) authorizationv1.SubjectAccessReviewStatus {
	yes := authorizationv1.SubjectAccessReviewStatus{Allowed: true, Reason: "every reader may read"}
	no := authorizationv1.SubjectAccessReviewStatus{Denied: true, Reason: "the API only reads; desired state lives in Git"}
	if a := spec.NonResourceAttributes; a != nil {
		if a.Verb == "get" || a.Verb == "head" {
			return yes
		}
		return no
	}
	a := spec.ResourceAttributes
	if a == nil {
		return no
	}
	review := slices.ContainsFunc(reviews, func(k schema.KindInfo) bool { return k.Group == a.Group && k.Resource == a.Resource })
	switch {
	case review && a.Verb == "create":
		return yes
	case a.Subresource == "" && slices.Contains(readVerbs, a.Verb):
		return yes
	case a.Subresource == "log" && slices.Contains(readVerbs, a.Verb) && slices.ContainsFunc(withLogs(), func(k schema.KindInfo) bool { return k.Resource == a.Resource }):
		return yes
	}
	return no
}

func withLogs() (kinds []schema.KindInfo) {
	for _, k := range schema.Kinds() {
		if k.Logs {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// rules says the same in the form `kubectl auth can-i --list` asks for.
func rules() authorizationv1.SubjectRulesReviewStatus {
	out := authorizationv1.SubjectRulesReviewStatus{
		ResourceRules: []authorizationv1.ResourceRule{
			{Verbs: readVerbs, APIGroups: []string{"*"}, Resources: []string{"*"}},
		},
		NonResourceRules: []authorizationv1.NonResourceRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"*"}}},
	}
	for _, k := range withLogs() {
		out.ResourceRules = append(out.ResourceRules, authorizationv1.ResourceRule{Verbs: readVerbs, APIGroups: []string{k.Group}, Resources: []string{k.Resource + "/log"}})
	}
	for _, k := range reviews {
		out.ResourceRules = append(out.ResourceRules, authorizationv1.ResourceRule{Verbs: []string{"create"}, APIGroups: []string{k.Group}, Resources: []string{k.Resource}})
	}
	return out
}
