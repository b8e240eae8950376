// Command api answers what the shop sells. It asks the store, and says which pod
// on which node answered.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"fairlead/examples/shop/images/internal/httpd"
)

var version = "dev"

func main() {
	client := &http.Client{Timeout: 10 * time.Second}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		greeting, err := os.ReadFile("/etc/shop/greeting")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		stock, err := ask(r.Context(), client)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{
			"service": "api", "version": version, "pod": os.Getenv("POD_NAME"), "node": os.Getenv("NODE_NAME"),
			"greeting": strings.TrimSpace(string(greeting)), "stock": stock,
		})
	})
	httpd.Serve(mux)
}

// ask fetches the items from the store.
func ask(ctx context.Context, client *http.Client) (json.RawMessage, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, os.Getenv("STORE_URL")+"/items", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Store-Token", strings.TrimSpace(os.Getenv("STORE_TOKEN")))
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("store answers %s: %s", resp.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}
