package main

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/reconciler/progress/why"
	"fairlead/reconciler/state"
	"fairlead/schema"
)

const (
	// whyLogLines is how much of a log an explanation shows.
	whyLogLines = 12
	// whyLogTimeout bounds the wait for it: a node may be silent.
	whyLogTimeout = 8 * time.Second
	// maxLogLine bounds one line of it, in runes.
	maxLogLine = 300
)

func whyCommand() *cobra.Command {
	var flags clusterFlags
	namespace := ""
	timeout := defaultTimeout
	cmd := &cobra.Command{
		Use:   "why KIND/NAME",
		Short: "Explain why an object is as it is, and who must act",
		Long: `Why follows the chain from the commit and the line in a file over what was made
of it to the pod, its node, its image, its probe or its exit. It says in one
word what the cause is, shows the last events and log lines, and who must act:
a developer, an operator, whoever runs the registry, or nobody.

A pod or workload that is gone with a failed revision is explained by what the
revision keeps of it.

KIND is deployment, replicaset, pod, service, node, source, revision or any
other kind that stands in Git, in any form that kubectl takes.

Exit codes: 0 explained, whatever the answer is; 1 error.`,
		Example: `  fairlead why deployment/api -n shop
  fairlead why node/n2
  fairlead why source/main`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, name, err := kindAndName(args)
			if err != nil {
				return err
			}
			c, err := flags.connect()
			if err != nil {
				return err
			}
			ctx, cancel := within(cmd.Context(), timeout)
			defer cancel()
			chain, err := explain(ctx, c, kind, namespace, name)
			if err != nil {
				return err
			}
			if flags.output == "text" {
				chain.WriteText(cmd.OutOrStdout(), time.Now())
				return nil
			}
			return writeAs(cmd.OutOrStdout(), flags.output, chain)
		},
	}
	cmd.Flags().StringVar(&flags.kubeconfig, "kubeconfig", "", "kubeconfig to use (default $KUBECONFIG, else the cluster that up made last)")
	cmd.Flags().StringVarP(&namespace, "namespace", "n", "", "namespace of the object (default \"default\", or the only one that has it)")
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "give up after this long")
	flags.registerOutput(cmd, "text", "json", "yaml")
	offerFirst(cmd, func(_ *cobra.Command, typed string) []string { return flags.objects(namespace, typed) })
	return cmd
}

// kindAndName reads KIND/NAME, or KIND NAME.
func kindAndName(args []string) (schema.KindInfo, string, error) {
	if len(args) == 1 {
		args = strings.SplitN(args[0], "/", 2)
	}
	if len(args) != 2 || args[1] == "" {
		return schema.KindInfo{}, "", usageErrorf("which object? Write KIND/NAME, as deployment/api")
	}
	for _, info := range schema.Kinds() {
		if isCalled(info, args[0]) {
			return info, args[1], nil
		}
	}
	return schema.KindInfo{}, "", usageErrorf("unknown kind %q: use %s", args[0], oneOf(why.Kinds()))
}

// oneOf names kinds as a user may write them, "pod, node or source".
func oneOf(kinds []schema.Kind) string {
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = schema.Info(k).Singular
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " or " + names[last]
}

// isCalled reports whether a user may mean the kind by a word.
func isCalled(info schema.KindInfo, word string) bool {
	return slices.Contains(append([]string{strings.ToLower(string(info.Kind)), info.Resource, info.Singular}, info.Short...), strings.ToLower(word))
}

func explain(ctx context.Context, c *client.Client, kind schema.KindInfo, namespace, name string) (*why.Chain, error) {
	kinds := why.Needs()
	if !slices.Contains(kinds, kind.Kind) {
		kinds = append(kinds, kind.Kind)
	}
	cluster, err := readCluster(ctx, c, "", kinds...)
	if reason, ok := client.Recovering(err); ok {
		if !kind.Namespaced {
			namespace = ""
		}
		return why.InRecovery(schema.Key{Kind: kind.Kind, Namespace: namespace, Name: name}, reason), nil
	}
	if err != nil {
		return nil, err
	}
	key, err := why.Find(cluster, kind, namespace, name)
	if err != nil {
		return nil, err
	}
	chain, err := why.Explain(cluster, key)
	if err != nil {
		return nil, err
	}
	if chain.Log != nil && len(chain.Log.Lines) == 0 {
		readLog(ctx, c, chain.Log)
	}
	return chain, nil
}

// readCluster is what the API shows of the kinds, and of events with the field
// selector.
func readCluster(ctx context.Context, c *client.Client, events string, kinds ...schema.Kind) (*state.Snapshot, error) {
	tx := state.Empty(state.Counters{}).Begin()
	for _, k := range kinds {
		fields := ""
		if k == schema.KindEvent {
			fields = events
		}
		objects, _, err := client.ListWhere[schema.Object](ctx, c, k, fields)
		if err != nil {
			return nil, err
		}
		for _, obj := range objects {
			tx.Restore(obj)
		}
	}
	return tx.Commit(), nil
}

// readLog fills in the last lines of a log, or why there are none.
func readLog(ctx context.Context, c *client.Client, log *why.Log) {
	ctx, cancel := context.WithTimeout(ctx, whyLogTimeout)
	defer cancel()
	query := url.Values{"container": {log.Container}, "tailLines": {strconv.Itoa(whyLogLines)}}
	if log.Previous {
		query.Set("previous", "true")
	}
	data, err := c.Do(ctx, http.MethodGet, client.Path(schema.KindPod, log.Namespace, log.Pod)+"/log?"+query.Encode(), nil)
	if err != nil {
		log.Error = err.Error()
		return
	}
	for line := range strings.Lines(strings.ToValidUTF8(string(data), "\uFFFD")) {
		runes := []rune(strings.TrimRight(line, "\r\n"))
		log.Lines = append(log.Lines, string(runes[:min(len(runes), maxLogLine)]))
	}
}
