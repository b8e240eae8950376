// Command web is the shop's front page. With -get it fetches one URL and prints
// the answer: a way to look around from inside its image, which holds nothing
// else.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"

	"fairlead/examples/shop/images/internal/httpd"
)

var version = "dev"

func main() {
	get := flag.String("get", "", "fetch this URL, print the answer and end")
	flag.Parse()
	client := &http.Client{Timeout: 15 * time.Second}
	if *get != "" {
		body, err := fetch(context.Background(), client, *get)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(body)
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		body, err := fetch(r.Context(), client, os.Getenv("API_URL"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprintf(w, "web %s on %s got from api:\n%s", version, os.Getenv("NODE_NAME"), body)
	})
	httpd.Serve(mux)
}

func fetch(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s: %s", url, resp.Status, body)
	}
	return string(body), err
}
