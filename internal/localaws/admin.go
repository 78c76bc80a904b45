package localaws

import (
	"encoding/json"
	"net/http"
)

const adminPath = "/_localaws"

// adminRoutes lists what serveAdmin answers, for people.
const adminRoutes = `GET    /_localaws/faults   the fault switches: away, requireVerifiedSenders, rules
PUT    /_localaws/faults   replace them all, in the same JSON
DELETE /_localaws/faults   switch them all off
PUT    /_localaws/expire   {"queue", "what": "visibility" | "messages" | "deduplication", "groups"}: make it lapse
GET    /_localaws/mails    what SES sent
DELETE /_localaws/mails    forget it
GET    /_localaws/stats    messages that went nowhere
`

type faultState struct {
	Away                   bool   `json:"away"`
	RequireVerifiedSenders bool   `json:"requireVerifiedSenders"`
	Rules                  []Rule `json:"rules"`
}

func (s *Server) serveAdmin(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
	switch r.Method + " " + r.URL.Path {
	case "GET /_localaws", "GET /_localaws/":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(adminRoutes))
	case "GET /_localaws/faults":
		writeAdmin(w, http.StatusOK, s.faultState())
	case "PUT /_localaws/faults":
		s.putFaults(w, r)
	case "DELETE /_localaws/faults":
		s.faults.Clear()
		s.faults.RequireVerifiedSenders(false)
		writeAdmin(w, http.StatusOK, s.faultState())
	case "PUT /_localaws/expire":
		s.putExpire(w, r)
	case "GET /_localaws/mails":
		writeAdmin(w, http.StatusOK, map[string]any{"mails": append([]Mail{}, s.Mails()...)})
	case "DELETE /_localaws/mails":
		s.ClearMails()
		w.WriteHeader(http.StatusNoContent)
	case "GET /_localaws/stats":
		writeAdmin(w, http.StatusOK, s.Stats())
	default:
		writeAdmin(w, http.StatusNotFound, adminError("there is no such route; GET "+adminPath+" lists them"))
	}
}

func (s *Server) faultState() faultState {
	return faultState{Away: s.faults.Away(), RequireVerifiedSenders: s.faults.requiresVerifiedSenders(), Rules: s.faults.Rules()}
}

func (s *Server) putFaults(w http.ResponseWriter, r *http.Request) {
	var state faultState
	if !readAdmin(w, r, &state) {
		return
	}
	if err := s.faults.replace(state.Rules, state.Away); err != nil {
		writeAdmin(w, http.StatusBadRequest, adminError(err.Error()))
		return
	}
	s.faults.RequireVerifiedSenders(state.RequireVerifiedSenders)
	writeAdmin(w, http.StatusOK, s.faultState())
}

func (s *Server) putExpire(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Queue  string   `json:"queue"`
		What   string   `json:"what"`
		Groups []string `json:"groups"`
	}
	if !readAdmin(w, r, &in) {
		return
	}
	n := 0
	switch in.What {
	case "visibility":
		n = s.faults.ExpireVisibility(in.Queue, in.Groups...)
	case "messages":
		n = s.faults.ExpireMessages(in.Queue, in.Groups...)
	case "deduplication":
		s.faults.ExpireDeduplication(in.Queue)
	default:
		writeAdmin(w, http.StatusBadRequest, adminError("what must be visibility, messages or deduplication"))
		return
	}
	writeAdmin(w, http.StatusOK, map[string]int{"expired": n})
}

func readAdmin(w http.ResponseWriter, r *http.Request, into any) bool {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		writeAdmin(w, http.StatusBadRequest, adminError(err.Error()))
		return false
	}
	return true
}

func adminError(message string) any { return map[string]string{"error": message} }

func writeAdmin(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(jsonBody(v), '\n'))
}
