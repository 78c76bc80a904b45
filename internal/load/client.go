package load

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// answerTimeout is how long an answer may take.
const answerTimeout = 30 * time.Second

// keepFor is how long a connection is left without a checkout: after that a server, or
// what stands before it, may close it just when the next one is sent.
const keepFor = 30 * time.Second

// client is one connection of HTTP/1.1, made anew after it broke.
type client struct {
	url  *url.URL
	addr string
	conn net.Conn
	used time.Time // when conn was dialled, or answered
	in   *bufio.Reader
	out  bytes.Buffer
	body []byte
}

func newClient(base string) (*client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%q is no address of an API: give one like http://127.0.0.1:8080", base)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	c := &client{url: u, addr: u.Host}
	if u.Port() == "" {
		c.addr = net.JoinHostPort(u.Hostname(), u.Scheme)
	}
	return c, nil
}

func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

func (c *client) dial() (err error) {
	dialer := &net.Dialer{Timeout: answerTimeout}
	if c.url.Scheme == "https" {
		c.conn, err = tls.DialWithDialer(dialer, "tcp", c.addr, &tls.Config{ServerName: c.url.Hostname(), MinVersion: tls.VersionTLS12}) //nolint:noctx // bounded by the dialer's own time
	} else {
		c.conn, err = dialer.Dial("tcp", c.addr)
	}
	if err != nil {
		c.conn = nil
		return err
	}
	c.in, c.used = bufio.NewReader(c.conn), time.Now()
	return nil
}

// post sends JSON and returns the status and the body, which is valid until the next.
func (c *client) post(path, key, body string) (int, []byte, error) {
	if time.Since(c.used) > keepFor {
		c.close()
	}
	if c.conn == nil {
		if err := c.dial(); err != nil {
			return 0, nil, err
		}
	}
	c.out.Reset()
	c.out.WriteString("POST " + c.url.Path + path + " HTTP/1.1\r\nHost: " + c.url.Host + "\r\nContent-Type: application/json\r\n")
	if key != "" {
		c.out.WriteString("Idempotency-Key: " + key + "\r\n")
	}
	c.out.WriteString("Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body)
	_ = c.conn.SetDeadline(time.Now().Add(answerTimeout))
	_, err := c.conn.Write(c.out.Bytes())
	var status int
	if err == nil {
		status, err = c.read()
	}
	c.used = time.Now()
	if err != nil {
		c.close()
	}
	return status, c.body, err
}

// maxAnswer is more than the API answers to any checkout.
const maxAnswer = 1 << 20

// read reads an answer with a length, which is how the API sends all of its own, or in
// chunks, as a proxy before it may.
func (c *client) read() (status int, err error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < len("HTTP/1.1 200") || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return 0, errors.New("the answer is not HTTP/1.1")
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, err
	}
	length, chunked, closes := -1, false, false
	err = c.header(func(name, value []byte) (err error) {
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			length, err = strconv.Atoi(string(value))
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = bytes.EqualFold(value, []byte("chunked"))
		case bytes.EqualFold(name, []byte("Connection")):
			closes = bytes.EqualFold(value, []byte("close"))
		}
		return err
	})
	switch {
	case err != nil:
		return 0, err
	case chunked:
		err = c.readChunks()
	case length < 0 || length > maxAnswer:
		return 0, errors.New("the answer states no length")
	default:
		if cap(c.body) < length {
			c.body = make([]byte, length)
		}
		c.body = c.body[:length]
		_, err = io.ReadFull(c.in, c.body)
	}
	if closes {
		c.close()
	}
	return status, err
}

// header reads the fields of a header up to the empty line that ends it.
func (c *client) header(field func(name, value []byte) error) error {
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
			return nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if err := field(name, bytes.TrimSpace(value)); err != nil {
			return err
		}
	}
}

func (c *client) readChunks() (err error) {
	if c.body, err = io.ReadAll(io.LimitReader(httputil.NewChunkedReader(c.in), maxAnswer+1)); err != nil {
		return err
	}
	if len(c.body) > maxAnswer {
		return errors.New("the answer has no end")
	}
	return c.header(func([]byte, []byte) error { return nil }) // the trailer
}

var orderMember = []byte(`"orderId":"`)

// orderOf is the order that a success names. One that names none has one that is nowhere.
func orderOf(answer []byte) uuid.UUID {
	_, rest, ok := bytes.Cut(answer, orderMember)
	if !ok || len(rest) < 36 {
		return uuid.Nil
	}
	id, _ := uuid.ParseBytes(rest[:36])
	return id
}
