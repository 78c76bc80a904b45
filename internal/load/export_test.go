package load

// PostAfterAPause posts twice over one client, between which pause is called and nothing
// is sent for longer than a connection is kept.
func PostAfterAPause(base string, pause func()) error {
	c, err := newClient(base)
	if err != nil {
		return err
	}
	defer c.close()
	if _, _, err := c.post("/checkout", "", "{}"); err != nil {
		return err
	}
	pause()
	c.used = c.used.Add(-2 * keepFor)
	_, _, err = c.post("/checkout", "", "{}")
	return err
}
