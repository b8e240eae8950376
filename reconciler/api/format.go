package api

import (
	"mime"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"fairlead/schema"
)

const metaGroup = "meta.k8s.io"

// as is the shape a client wants objects in.
type as int

const (
	asObject  as = iota
	asTable      // meta.k8s.io Table
	asPartial    // meta.k8s.io PartialObjectMetadata
)

// format is what a request's Accept header and query ask for.
type format struct {
	as      as
	version string // of meta.k8s.io: v1 or v1beta1
	include metav1.IncludeObjectPolicy
}

// formatOf takes the first clause of Accept that can be served; no header means
// plain JSON.
func formatOf(r *http.Request) (format, *apierrors.StatusError) {
	f := format{include: metav1.IncludeMetadata}
	switch policy := metav1.IncludeObjectPolicy(r.URL.Query().Get("includeObject")); policy {
	case "":
	case metav1.IncludeNone, metav1.IncludeMetadata, metav1.IncludeObject:
		f.include = policy
	default:
		return f, apierrors.NewBadRequest(`includeObject must be "None", "Metadata" or "Object"`)
	}
	accept := r.Header.Get("Accept")
	if accept == "" {
		return f, nil
	}
	for clause := range strings.SplitSeq(accept, ",") {
		kind, params, err := mime.ParseMediaType(clause)
		if err != nil || kind != "application/json" && kind != "application/*" && kind != "*/*" {
			continue
		}
		version := params["v"]
		served := params["g"] == metaGroup && (version == "v1" || version == "v1beta1")
		switch params["as"] {
		case "":
			return f, nil
		case "Table":
			if served {
				f.as, f.version = asTable, version
				return f, nil
			}
		case "PartialObjectMetadata", "PartialObjectMetadataList":
			if served {
				f.as, f.version = asPartial, version
				return f, nil
			}
		}
	}
	return f, newStatus(http.StatusNotAcceptable, metav1.StatusReasonNotAcceptable, "only application/json is served, as objects, Table or PartialObjectMetadata")
}

// table renders objects as rows. Clients show its cells to terminals as they are;
// the objects that may come with them are exact.
func (f format) table(res *resource, rv string, objs []schema.Object, now metav1.Time) *metav1.Table {
	t := &metav1.Table{
		TypeMeta:          metav1.TypeMeta{Kind: "Table", APIVersion: metaGroup + "/" + f.version},
		ListMeta:          metav1.ListMeta{ResourceVersion: rv},
		ColumnDefinitions: res.definitions(),
		Rows:              make([]metav1.TableRow, len(objs)),
	}
	for i, obj := range objs {
		t.Rows[i] = metav1.TableRow{Cells: printableCells(res.cells(obj, now)), Object: f.rowObject(obj)}
	}
	return t
}

func printableCells(cells []any) []any {
	for i, c := range cells {
		if text, ok := c.(string); ok {
			cells[i] = schema.Printable(text)
		}
	}
	return cells
}

func (f format) rowObject(obj schema.Object) runtime.RawExtension {
	switch f.include {
	case metav1.IncludeNone:
		return runtime.RawExtension{}
	case metav1.IncludeObject:
		return runtime.RawExtension{Object: present(obj)}
	}
	return runtime.RawExtension{Object: partial(obj, f.version)}
}
