//go:build !linux

package sink

import "io"

// atOnce returns a Write that takes what can be taken without waiting for a reader: here that is never known.
func atOnce(io.Writer) func(p []byte) (int, error) {
	return func([]byte) (int, error) { return 0, nil }
}
