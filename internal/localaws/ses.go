package localaws

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/mail"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Mail is one mail that SES accepted.
type Mail struct {
	MessageID        string            `json:"messageId"`
	At               time.Time         `json:"at"`
	From             string            `json:"from"`
	To               []string          `json:"to,omitempty"`
	Cc               []string          `json:"cc,omitempty"`
	Bcc              []string          `json:"bcc,omitempty"`
	ReplyTo          []string          `json:"replyTo,omitempty"`
	Subject          string            `json:"subject,omitempty"`
	Text             string            `json:"text,omitempty"`
	HTML             string            `json:"html,omitempty"`
	Raw              []byte            `json:"raw,omitempty"` // of a mail sent raw; its parts are not parsed
	Tags             map[string]string `json:"tags,omitempty"`
	ConfigurationSet string            `json:"configurationSet,omitempty"`
}

// mailbox is the state of SES, guarded by the server's lock.
type mailbox struct {
	mails      []Mail
	identities map[string]bool
	strict     bool // only created identities may send
}

// Mails returns what was sent, oldest first.
func (s *Server) Mails() []Mail {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.mailbox.mails)
}

// ClearMails forgets what was sent.
func (s *Server) ClearMails() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mailbox.mails = nil
}

const (
	pathOutbound   = "/v2/email/outbound-emails"
	pathIdentities = "/v2/email/identities"
	pathAccount    = "/v2/email/account"
	maxRecipients  = 50
)

func (s *Server) performSES(c *call) answer {
	method, path, _ := strings.Cut(c.action, " ")
	var out any
	var err error
	identity, one := strings.CutPrefix(path, pathIdentities+"/")
	switch {
	case method == http.MethodPost && path == pathOutbound:
		out, err = s.sendEmail(c)
	case method == http.MethodGet && path == pathAccount:
		out = s.account()
	case method == http.MethodPost && path == pathIdentities:
		out, err = s.createIdentity(c)
	case method == http.MethodGet && path == pathIdentities:
		out = s.listIdentities()
	case one && method == http.MethodGet:
		out, err = s.getIdentity(identity)
	case one && method == http.MethodDelete:
		err = s.deleteIdentity(identity)
		out = nothing{}
	default:
		err = &apiError{code: "NotFoundException", message: "The stand-in does not know " + clip(c.action) + ".", status: http.StatusNotFound}
	}
	if err != nil {
		return c.refusal(err)
	}
	return answer{status: http.StatusOK, contentType: "application/json", body: jsonBody(out)}
}

type sesText struct {
	Data    string
	Charset string
}

type sendEmailInput struct {
	FromEmailAddress string
	Destination      struct{ ToAddresses, CcAddresses, BccAddresses []string }
	ReplyToAddresses []string
	EmailTags        []struct{ Name, Value string }
	Content          struct {
		Simple *struct {
			Subject sesText
			Body    struct{ Text, Html *sesText }
		}
		Raw      *struct{ Data []byte }
		Template json.RawMessage
	}
	ConfigurationSetName string
}

func badRequest(format string, args ...any) *apiError {
	return refuse("BadRequestException", format, args...)
}

func (s *Server) sendEmail(c *call) (any, error) {
	var in sendEmailInput
	if err := json.Unmarshal(c.body, &in); err != nil {
		return nil, badRequest("%s", err)
	}
	m, err := in.mail()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.mailbox.maySend(m.From); err != nil {
		return nil, err
	}
	m.MessageID, m.At = uuid.NewString(), s.now()
	s.mailbox.mails = append(s.mailbox.mails, m)
	return map[string]string{"MessageId": m.MessageID}, nil
}

func (in *sendEmailInput) mail() (Mail, error) {
	m := Mail{
		From: in.FromEmailAddress, To: in.Destination.ToAddresses, Cc: in.Destination.CcAddresses, Bcc: in.Destination.BccAddresses,
		ReplyTo: in.ReplyToAddresses, ConfigurationSet: in.ConfigurationSetName,
	}
	return m, firstError(m.setTags(in), m.setContent(in), m.checkAddresses())
}

func (m *Mail) setTags(in *sendEmailInput) error {
	if len(in.EmailTags) > 50 {
		return badRequest("A mail can have at most 50 tags.")
	}
	m.Tags = make(map[string]string, len(in.EmailTags))
	for _, t := range in.EmailTags {
		if !isTagText(t.Name) || !isTagText(t.Value) {
			return badRequest("Tag <%s: %s> may only hold letters, digits, '_' and '-', 1 to 256 of them.", clip(t.Name), clip(t.Value))
		}
		m.Tags[t.Name] = t.Value
	}
	return nil
}

func isTagText(s string) bool {
	return s != "" && len(s) <= 256 && !strings.ContainsFunc(s, func(r rune) bool { return !isAlphanumeric(r) && r != '_' && r != '-' })
}

func (m *Mail) setContent(in *sendEmailInput) error {
	simple, raw := in.Content.Simple, in.Content.Raw
	switch {
	case simple != nil && raw == nil && in.Content.Template == nil:
		m.Subject = simple.Subject.Data
		if simple.Body.Text != nil {
			m.Text = simple.Body.Text.Data
		}
		if simple.Body.Html != nil {
			m.HTML = simple.Body.Html.Data
		}
		if m.Subject == "" || m.Text == "" && m.HTML == "" {
			return badRequest("A simple mail needs a subject and a body.")
		}
		if strings.ContainsAny(m.Subject, "\r\n") {
			return badRequest("The subject holds a line break.")
		}
	case raw != nil && simple == nil && in.Content.Template == nil:
		m.Raw = raw.Data
		return m.checkRaw()
	default:
		return badRequest("The content must be either Simple or Raw; templates are not known here.")
	}
	return nil
}

func (m *Mail) checkRaw() error {
	parsed, err := mail.ReadMessage(bytes.NewReader(m.Raw))
	if err != nil {
		return badRequest("The raw mail is malformed: %s", err)
	}
	m.Subject = parsed.Header.Get("Subject")
	if m.From == "" {
		m.From = parsed.Header.Get("From")
	}
	if len(m.To)+len(m.Cc)+len(m.Bcc) == 0 {
		for _, to := range strings.Split(parsed.Header.Get("To"), ",") {
			m.To = append(m.To, strings.TrimSpace(to))
		}
	}
	return nil
}

func (m *Mail) checkAddresses() error {
	if _, err := mail.ParseAddress(m.From); err != nil {
		return badRequest("The sender %q is not an address.", clip(m.From))
	}
	recipients := slices.Concat(m.To, m.Cc, m.Bcc)
	if len(recipients) == 0 || len(recipients) > maxRecipients {
		return badRequest("A mail needs 1 to %d recipients.", maxRecipients)
	}
	for _, address := range slices.Concat(recipients, m.ReplyTo) {
		if _, err := mail.ParseAddress(address); err != nil {
			return badRequest("%q is not an address.", clip(address))
		}
	}
	return nil
}

// maySend refuses a sender that is no identity, if identities are asked for.
func (b *mailbox) maySend(from string) error {
	address, err := mail.ParseAddress(from)
	if err != nil || !b.strict {
		return err
	}
	_, domain, _ := strings.Cut(address.Address, "@")
	if b.identities[address.Address] || b.identities[domain] {
		return nil
	}
	return refuse("MessageRejected", "Email address is not verified. The following identities failed the check: %s", clip(address.Address))
}

func (s *Server) account() any {
	return map[string]any{
		"SendingEnabled": true, "ProductionAccessEnabled": true, "EnforcementStatus": "HEALTHY", "DedicatedIpAutoWarmupEnabled": false,
		"SendQuota": map[string]float64{"Max24HourSend": 50000, "MaxSendRate": 14, "SentLast24Hours": float64(len(s.Mails()))},
	}
}

func (s *Server) createIdentity(c *call) (any, error) {
	var in struct{ EmailIdentity string }
	if err := json.Unmarshal(c.body, &in); err != nil || in.EmailIdentity == "" {
		return nil, badRequest("EmailIdentity is missing.")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mailbox.identities[in.EmailIdentity] {
		return nil, refuse("AlreadyExistsException", "Email identity %s already exist.", clip(in.EmailIdentity))
	}
	if s.mailbox.identities == nil {
		s.mailbox.identities = make(map[string]bool)
	}
	s.mailbox.identities[in.EmailIdentity] = true
	return describeIdentity(in.EmailIdentity), nil
}

func (s *Server) getIdentity(escaped string) (any, error) {
	name, err := s.knownIdentity(escaped)
	if err != nil {
		return nil, err
	}
	return describeIdentity(name), nil
}

func (s *Server) deleteIdentity(escaped string) error {
	name, err := s.knownIdentity(escaped)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mailbox.identities, name)
	return nil
}

func (s *Server) knownIdentity(escaped string) (string, error) {
	name, err := url.PathUnescape(escaped)
	if err != nil {
		return "", fmt.Errorf("identity: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mailbox.identities[name] {
		return "", &apiError{code: "NotFoundException", message: "Email identity " + clip(name) + " does not exist.", status: http.StatusNotFound}
	}
	return name, nil
}

func describeIdentity(name string) any {
	return map[string]any{
		"IdentityType": identityType(name), "VerifiedForSendingStatus": true, "FeedbackForwardingStatus": true, "VerificationStatus": "SUCCESS",
	}
}

func identityType(name string) string {
	if strings.Contains(name, "@") {
		return "EMAIL_ADDRESS"
	}
	return "DOMAIN"
}

func (s *Server) listIdentities() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	type info struct {
		IdentityName, IdentityType, VerificationStatus string
		SendingEnabled                                 bool
	}
	list := []info{}
	for _, name := range slices.Sorted(maps.Keys(s.mailbox.identities)) {
		list = append(list, info{IdentityName: name, IdentityType: identityType(name), VerificationStatus: "SUCCESS", SendingEnabled: true})
	}
	return map[string]any{"EmailIdentities": list}
}
