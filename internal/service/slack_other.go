//go:build !linux

package service

// Slackened is in the environment of a program that is not to slacken its timers.
const Slackened = "RESTOCK_TIMERS_SLACKENED=1"

// SlackenTimers does nothing where there is no timer slack.
func SlackenTimers([]string) error { return nil }
