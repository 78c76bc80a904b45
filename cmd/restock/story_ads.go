package main

import (
	"fmt"
	"strings"

	"github.com/restock-dev/restock/internal/localaws"
)

// adsStop waits for the mail that stops the ads, and lets the factory deliver.
func (t *teller) adsStop() error {
	if err := t.mailArrives("stop", 1); err != nil {
		return err
	}
	close(t.demo.deliver)
	return nil
}

func (t *teller) adsResume() error { return t.mailArrives("resume", 2) }

// mailArrives waits for the mail of that kind, which is the nth of all.
func (t *teller) mailArrives(kind string, nth int) error {
	var mails []localaws.Mail
	err := t.until("the ads' manager is told to "+kind, func() (bool, error) {
		mails = t.demo.aws.Mails()
		return len(mails) >= nth, nil
	})
	if err != nil {
		return err
	}
	m := mails[nth-1]
	t.say("ads", "mail: %s", m.Subject)
	if len(mails) != nth || m.Tags["kind"] != kind || !strings.Contains(m.Text, demoSKU) {
		return fmt.Errorf("mail %d of %d is of kind %q with subject %q, want a %s mail about %s", nth, len(mails), m.Tags["kind"], m.Subject, kind, demoSKU)
	}
	return nil
}
