// Command store keeps the shop's items in memory and hands them to whoever
// knows the token.
package main

import (
	"crypto/subtle"
	"encoding/json"
	"log"
	"net/http"
	"os"
	"strings"

	"fairlead/examples/shop/images/internal/httpd"
)

var version = "dev"

func main() {
	token := strings.TrimSpace(os.Getenv("STORE_TOKEN"))
	if token == "" {
		log.Fatal("STORE_TOKEN is not set")
	}
	items := strings.Split(os.Getenv("STORE_ITEMS"), ",")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /items", func(w http.ResponseWriter, r *http.Request) {
		if subtle.ConstantTimeCompare([]byte(r.Header.Get("X-Store-Token")), []byte(token)) != 1 {
			http.Error(w, "wrong token", http.StatusForbidden)
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"version": version, "items": items})
	})
	httpd.Serve(mux)
}
