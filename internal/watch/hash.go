package watch

import "github.com/cespare/xxhash/v2"

// A part is what one of event.Hashes is the hash of: members of an object, as they are added. Side by side they go into
// the digest in one piece, and most parts are one piece, which needs no digest.
type part struct {
	digest xxhash.Digest
	begun  bool // the digest holds members
	run    span // the last members, side by side, which it does not hold
}

// emptyHash is the hash of a part without members.
const emptyHash = 0xef46db3751d8e999

// add takes in one more member, which lies at m in b. A comma is hashed between members, and nothing else that stands there:
// it makes no difference where kind and apiVersion are, or whether a LIST has them. White space inside of a member does make
// one: an API server writes an object the same way each time, unless it is asked to make it pretty.
func (p *part) add(b []byte, m span) {
	switch {
	case p.run.end == 0:
		p.run = m
	case p.run.end+1 == m.start: // only the comma fits in between
		p.run.end = m.end
	default:
		p.write(b)
		_, _ = p.digest.WriteString(",") // a digest returns no errors
		p.run = m
	}
}

func (p *part) write(b []byte) {
	if !p.begun {
		p.digest.Reset()
		p.begun = true
	}
	_, _ = p.digest.Write(b[p.run.start:p.run.end])
}

// sum is the hash of all that was added.
func (p *part) sum(b []byte) uint64 {
	if !p.begun {
		return hash(b[p.run.start:p.run.end])
	}
	p.write(b)
	return known(p.digest.Sum64())
}

// hash is the hash of a part that is in one piece.
func hash(piece []byte) uint64 { return known(xxhash.Sum64(piece)) }

// known keeps 0 for what is not known.
func known(sum uint64) uint64 { return max(sum, 1) }
