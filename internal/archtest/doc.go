// Package archtest keeps the structure of the module true by tests: who may import whom, where
// the environment, the AWS SDK and the replication protocol may be known, that every package
// says what it is for. It has no code of its own for others; run it with go test.
//
// Every rule is a pure function over parsed files (rules_test.go), is applied to the module as it
// is, and is shown to fail on a planted violation (planted_test.go). A violation names
// the file, what is wrong in it and how to mend it.
package archtest
