package console

import (
	"embed"
	"io/fs"
	"net/http"
	"path"
)

// static is the page: HTML, CSS and JavaScript modules as the browser takes them.
//
//go:embed static
var static embed.FS

// kinds are said here, not guessed: what a machine takes a suffix for differs.
var kinds = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// page serves what is in static and nothing else.
func page() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := path.Clean(r.URL.Path)[1:]
		if name == "" {
			name = "index.html"
		}
		text, err := fs.ReadFile(static, "static/"+name)
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			problem(w, http.StatusMethodNotAllowed, "the page can only be read")
		case err != nil:
			problem(w, http.StatusNotFound, "no such page: the console is at /")
		default:
			w.Header().Set("Content-Type", kinds[path.Ext(name)])
			_, _ = w.Write(text) //nolint:gosec // it is a file of ours; the client may be gone
		}
	})
}
