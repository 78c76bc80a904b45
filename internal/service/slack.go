package service

// SlackenedName names the variable that Slackened sets.
const SlackenedName = "RESTOCK_TIMERS_SLACKENED"

// Slackened is in the environment of a program that has begun again with slack timers,
// which it does once, even where the slack does not survive, or of one that is not to.
const Slackened = SlackenedName + "=1"
