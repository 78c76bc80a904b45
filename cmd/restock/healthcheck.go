package main

import (
	"fmt"
	"net/http"
	"time"
)

type healthcheckCommand struct {
	URL     string        `arg:"" help:"What to ask, as in http://127.0.0.1:8081/healthz."`
	Timeout time.Duration `default:"3s" help:"How long to wait for the answer."`
}

// Help is what -h says besides the flags.
func (c *healthcheckCommand) Help() string {
	return "For a container that holds nothing but this program. Exit codes: 0 it answers 200, 1 it answers something else or not at all."
}

// Run asks once.
func (c *healthcheckCommand) Run(inv *invocation) error {
	req, err := http.NewRequestWithContext(inv, http.MethodGet, c.URL, nil)
	if err != nil {
		return &setupError{err}
	}
	res, err := (&http.Client{Timeout: c.Timeout}).Do(req)
	if err != nil {
		return err
	}
	if err := res.Body.Close(); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", c.URL, res.Status)
	}
	return nil
}
