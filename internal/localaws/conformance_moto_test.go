package localaws_test

// motoDiffers lists the tests that moto fails, and why.
func motoDiffers() map[string]string {
	return map[string]string{}
}
