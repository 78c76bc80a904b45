package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	stdlog "log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// moto is an AWS API on this machine, behind a proxy that corrects what no client of AWS
// can read, and that lets whoever comes with a role's name for an access key do what that
// role may, and nothing else.
type moto struct {
	t    *testing.T
	url  string // of the proxy
	self *url.URL
	*gate
}

func startMoto(t *testing.T) *moto {
	t.Helper()
	port := freePort(t)
	log := &log{}
	cmd := exec.Command("moto_server", "-H", "127.0.0.1", "-p", port)
	cmd.Stderr = log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("moto printed:\n%s", regexp.MustCompile(`(?m)^.*" 200 -\n`).ReplaceAllString(log.tail(), ""))
		}
	})
	m := &moto{t: t, self: &url.URL{Scheme: "http", Host: net.JoinHostPort("127.0.0.1", port)}}
	m.gate = newGate(m)
	require.Eventually(t, func() bool {
		res, err := http.Get(m.self.String() + "/moto-api/data.json")
		if err != nil {
			return false
		}
		return errors.Join(res.Body.Close()) == nil && res.StatusCode == http.StatusOK
	}, patience, 50*time.Millisecond)
	to := &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(m.self); r.Out.Host = r.In.Host },
		ModifyResponse: correctMoto, ErrorLog: stdlog.New(io.Discard, "", 0), // clients that go away
	}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Amz-Target") == "AnyScaleFrontendService.ListTagsForResource" {
			_, _ = io.WriteString(w, `{"Tags":{}}`) // moto fails at it
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // the client went away
		}
		if !m.pass(r, body) {
			http.Error(w, `{"__type":"AccessDeniedException","message":"the role does not allow it"}`, http.StatusForbidden)
			return
		}
		known := byResourceID.ReplaceAll(body, nil) // moto knows no resource id: the answer is sifted
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(known)), int64(len(known))
		to.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), sentKey{}, body)))
	}))
	t.Cleanup(proxy.Close)
	m.url = proxy.URL
	return m
}

type sentKey struct{}

// correctMoto makes answers of moto's what AWS's are. Of a configuration set SES v2 says
// whether sending is enabled with true or false, and leaves out options that are not set;
// of a FIFO topic SNS tells the throughput scope; a redrive policy comes back as it was
// given, without spaces; a database instance has a resource id of its own.
func correctMoto(res *http.Response) error {
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	sent, _ := res.Request.Context().Value(sentKey{}).([]byte)
	switch {
	case res.Request.Method == http.MethodGet && strings.HasPrefix(res.Request.URL.Path, "/v2/email/configuration-sets/"):
		var set map[string]any
		if err := json.Unmarshal(text, &set); err != nil {
			return err
		}
		maps.DeleteFunc(set, func(_ string, value any) bool { return reflect.DeepEqual(value, map[string]any{}) })
		set["SendingOptions"] = map[string]bool{"SendingEnabled": true}
		if text, err = json.Marshal(set); err != nil {
			return err
		}
	case bytes.Contains(text, []byte("<GetTopicAttributesResult>")):
		scope := "<entry><key>FifoThroughputScope</key><value>Topic</value></entry></Attributes>"
		text = bytes.Replace(text, []byte("</Attributes>"), []byte(scope), 1)
	case bytes.Contains(text, []byte("RedrivePolicy")):
		text = bytes.ReplaceAll(text, []byte(`\": `), []byte(`\":`))
		text = bytes.ReplaceAll(text, []byte(`, \"maxReceiveCount`), []byte(`,\"maxReceiveCount`))
	case bytes.Contains(text, []byte("</DBInstance>")):
		text = correctInstances(text, sent)
	}
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	res.Header.Set("Content-Length", strconv.Itoa(len(text)))
	return nil
}

var (
	instance     = regexp.MustCompile(`(?s)<DBInstance>.*?</DBInstance>`)
	instanceName = regexp.MustCompile(`<DBInstanceIdentifier>([^<]*)<`)
	resourceID   = regexp.MustCompile(`<DbiResourceId>[^<]*<`)
	byResourceID = regexp.MustCompile(`&Filters\.Filter\.1\.Name=dbi-resource-id&Filters\.Filter\.1\.Values\.Value\.1=([^&]*)`)
)

// correctInstances gives each database instance a resource id of its own, and leaves the
// one that was asked for by it.
func correctInstances(answer, sent []byte) []byte {
	asked := byResourceID.FindSubmatch(sent)
	return instance.ReplaceAllFunc(answer, func(one []byte) []byte {
		name := instanceName.FindSubmatch(one)
		if name == nil {
			return one
		}
		id := "db-" + strings.ToUpper(strings.ReplaceAll(string(name[1]), "-", ""))
		if asked != nil && string(asked[1]) != id {
			return nil
		}
		return resourceID.ReplaceAll(one, []byte("<DbiResourceId>"+id+"<"))
	})
}

// form asks a service that speaks forms, beside the proxy, for what a test needs.
func (m *moto) form(service string, form url.Values) string {
	m.t.Helper()
	return m.ask(service, "", "application/x-www-form-urlencoded", []byte(form.Encode()))
}

// json asks a service that speaks JSON.
func (m *moto) json(service, target string, body map[string]string) string {
	m.t.Helper()
	text, err := json.Marshal(body)
	require.NoError(m.t, err)
	return m.ask(service, target, "application/x-amz-json-1.1", text)
}

func (m *moto) ask(service, target, kind string, body []byte) string {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodPost, m.self.String(), bytes.NewReader(body))
	require.NoError(m.t, err)
	req.Header.Set("Content-Type", kind)
	req.Header.Set("X-Amz-Target", target)
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=local/20260101/ap-northeast-2/"+service+"/aws4_request, SignedHeaders=host, Signature=0")
	res, err := http.DefaultClient.Do(req)
	require.NoError(m.t, err)
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	require.NoError(m.t, err)
	require.Equal(m.t, http.StatusOK, res.StatusCode, string(answer))
	return string(answer)
}
