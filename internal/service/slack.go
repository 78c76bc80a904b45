package service

// Slackened is in the environment of a program that has begun again with slack timers,
// which it does once, even where the slack does not survive, or of one that is not to.
const Slackened = "RESTOCK_TIMERS_SLACKENED=1"
