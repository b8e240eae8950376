package main

import (
	"context"
	"fmt"

	"fairlead/cmd/fairlead/internal/client"
	"fairlead/schema"
)

// sourcesOf are those of a cluster.
func sourcesOf(ctx context.Context, c *client.Client) ([]*schema.Source, error) {
	sources, err := client.All[*schema.Source](ctx, c)
	return sources, err
}

// sourceNamed is the source of that name.
func sourceNamed(sources []*schema.Source, name schema.SourceName) (*schema.Source, error) {
	for _, src := range sources {
		if src.SourceName() == name {
			return src, nil
		}
	}
	return nil, fmt.Errorf("there is no source %q", name)
}
