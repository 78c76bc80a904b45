//go:build !linux

package service

// SlackenTimers does nothing where there is no timer slack.
func SlackenTimers([]string) error { return nil }
