package localaws

import (
	"context"
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"

	"github.com/google/uuid"
)

const maxBodyBytes = 8 << 20 // a form of one full batch, escaped

// call is one request on its way.
type call struct {
	ctx       context.Context
	id        string
	service   string // as in the credential scope: sns, sqs, ses or sts
	action    string
	json      bool  // SQS: the JSON protocol rather than the query protocol
	form      *form // query protocol
	body      []byte
	queuePath string // SQS query protocol: the path names the queue
	away      <-chan struct{}
	failing   map[string]*apiError // batch entry id to the fault that hits it
	resources []string             // what fault rules may match on, read if there are any
	messages  []messageFacts
}

// entryError is an entry's own error, else that of a fault switched on for it.
func (c *call) entryError(id string, err error) error {
	if err != nil {
		return err
	}
	if fault := c.failing[id]; fault != nil {
		return fault
	}
	return nil
}

// answer is what a call is answered with.
type answer struct {
	status      int
	contentType string
	body        []byte
	err         *apiError
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, adminPath) {
		s.serveAdmin(w, r)
		return
	}
	if !s.enter() {
		panic(http.ErrAbortHandler)
	}
	defer s.tasks.Done()
	away := s.faults.awayChannel()
	if away == nil {
		panic(http.ErrAbortHandler) // cuts the connection, as if nobody were there
	}
	c := &call{ctx: r.Context(), id: uuid.NewString(), away: away}
	var a answer
	if err := s.readCall(c, w, r); err != nil {
		a = c.refusal(err)
	} else {
		a = s.withFaults(c)
	}
	if a.err != nil {
		s.log.Debug().Str("service", c.service).Str("action", c.action).Str("code", a.err.queryCode()).Msg(a.err.message)
	}
	a.write(w, c)
}

func (a answer) write(w http.ResponseWriter, c *call) {
	h := w.Header()
	h.Set("Content-Type", a.contentType)
	h.Set("X-Amzn-Requestid", c.id)
	if a.err != nil && c.json {
		h.Set("X-Amzn-Query-Error", a.err.queryCode()+";"+a.err.faultName())
	}
	if a.err != nil && c.service == serviceSES {
		h.Set("X-Amzn-Errortype", a.err.code)
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // the client is gone; it will ask again
}

// readCall finds out what is asked for.
func (s *Server) readCall(c *call, w http.ResponseWriter, r *http.Request) error {
	c.json = r.Header.Get("X-Amz-Target") != ""
	err := c.authenticate(r)
	if err != nil {
		return err
	}
	c.body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return &apiError{code: "RequestEntityTooLarge", message: "The request is too large.", status: http.StatusRequestEntityTooLarge}
		}
		return refuse("IncompleteBody", "reading the request: %s", err)
	}
	return c.recognise(r)
}

func (c *call) recognise(r *http.Request) error {
	target := r.Header.Get("X-Amz-Target")
	switch {
	case c.service == serviceSES:
		c.action = r.Method + " " + r.URL.Path
		return nil
	case target != "":
		service, action, _ := strings.Cut(target, ".")
		if service != "AmazonSQS" || c.service != serviceSQS {
			return refuse("UnknownOperationException", "X-Amz-Target %q is not of a service here.", clip(target))
		}
		c.action = action
		return nil
	}
	return c.recogniseForm(r)
}

func (c *call) recogniseForm(r *http.Request) error {
	body := string(c.body)
	if r.Method == http.MethodGet {
		body = r.URL.RawQuery
	} else if r.Method != http.MethodPost {
		return &apiError{code: "InvalidAction", message: "Only POST and GET are understood.", status: http.StatusMethodNotAllowed}
	}
	f, err := parseForm(body)
	if err != nil {
		return refuse("MalformedQueryString", "%s", err)
	}
	c.form, c.action, c.queuePath = f, f.get("Action"), strings.TrimPrefix(r.URL.Path, "/")
	if c.action == "" {
		return refuse("MissingAction", "The request holds no Action.")
	}
	return nil
}

var (
	authorizationPattern = regexp.MustCompile(`^AWS4-HMAC-SHA256\s+Credential=([^,\s]+),\s*SignedHeaders=[a-z0-9;_-]+,\s*Signature=[0-9a-f]{64}$`)
	credentialPattern    = regexp.MustCompile(`^[A-Za-z0-9/_-]{1,128}/\d{8}/[a-z0-9-]+/([a-z0-9]+)/aws4_request$`)
	signaturePattern     = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// authenticate wants a well-formed Signature Version 4, in the header or the query string. It believes any key
// and any region, because whoever points a client here has chosen neither for us.
func (c *call) authenticate(r *http.Request) error {
	credential := ""
	if header := r.Header.Get("Authorization"); header != "" {
		if m := authorizationPattern.FindStringSubmatch(header); m != nil {
			credential = m[1]
		}
	} else if query := r.URL.Query(); signaturePattern.MatchString(query.Get("X-Amz-Signature")) {
		credential = query.Get("X-Amz-Credential")
	}
	c.service = guessService(r, c.json)
	m := credentialPattern.FindStringSubmatch(credential)
	if m == nil {
		return &apiError{code: "MissingAuthenticationToken", message: "Request is missing Authentication Token: no well-formed AWS Signature Version 4.", status: http.StatusForbidden}
	}
	if !oneOf(m[1], serviceSNS, serviceSQS, serviceSES, serviceSTS) {
		return &apiError{code: "InvalidSignatureException", message: "Nothing here answers for service " + clip(m[1]) + ".", status: http.StatusForbidden}
	}
	c.service = m[1]
	return nil
}

// guessService settles the protocol of the refusal where the signature does not say.
func guessService(r *http.Request, isJSON bool) string {
	switch {
	case isJSON:
		return serviceSQS
	case strings.HasPrefix(r.URL.Path, "/v2/email/"):
		return serviceSES
	}
	return serviceSNS
}

// queueURLOf completes a queue URL for the query protocol, where the path may stand for it.
func (c *call) queueURLOf() string {
	if c.queuePath == "" {
		return ""
	}
	return "/" + c.queuePath
}
