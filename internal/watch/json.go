package watch

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"strings"
	"unicode/utf8"
)

// maxDepth is how deep arrays and objects may nest. encoding/json has the same limit.
const maxDepth = 10_000

// What is in here is RFC 8259. Each function begins at b[i] and returns where what it read ends. Only skipValue recurses,
// once in 64 levels, and only errors and keys with escapes allocate.

// openObject goes past the opening brace of the object that b begins with.
func openObject(b []byte) (int, error) {
	i := skipSpace(b, 0)
	if i == len(b) {
		return i, errIncomplete
	}
	if b[i] != '{' {
		return i, &syntaxError{i, "want an object"}
	}
	return i + 1, nil
}

// nextMember goes from an object's opening brace, or else from the end of a member's value, to the next member: its name,
// where its key's opening quote is, and where its value begins. A nil name says that the object ended, at value.
func nextMember(b []byte, i int, first bool) (name []byte, key, value int, err error) {
	key, more, err := next(b, i, '}', first)
	if err != nil || !more {
		return nil, key, key, err
	}
	if end := plainKey(b, key); end > 0 {
		return b[key+1 : end], key, end + 2, nil
	}
	end, value, err := skipKey(b, key)
	if err != nil {
		return nil, key, value, err
	}
	return unescaped(b[key+1 : end]), key, value, nil
}

// next goes from the beginning of an array or object, or else from the end of what is in it, to what comes next in it. If
// nothing does it goes past its end.
func next(b []byte, i int, end byte, first bool) (at int, more bool, err error) {
	if i = skipSpace(b, i); i == len(b) {
		return i, false, errIncomplete
	}
	if b[i] == end {
		return i + 1, false, nil
	}
	if !first {
		if b[i] != ',' {
			return i, false, &syntaxError{i, "want a comma or the end of the array or object"}
		}
		if i = skipSpace(b, i+1); i == len(b) {
			return i, false, errIncomplete
		}
	}
	return i, true, nil
}

// plainKey is where the key at b[i] ends, if it is as nearly all are: ASCII without escapes, the colon and the value right
// behind it. Else it is 0. It saves a tenth of the whole scan.
func plainKey(b []byte, i int) int {
	if b[i] != '"' {
		return 0
	}
	for i++; i <= len(b)-8; i += 8 {
		special := stops(binary.LittleEndian.Uint64(b[i : i+8]))
		if special == 0 {
			continue
		}
		i += bits.TrailingZeros64(special) / 8
		if i+2 < len(b) && b[i] == '"' && b[i+1] == ':' && b[i+2] > ' ' {
			return i
		}
		break
	}
	return 0
}

// skipKey reads a key and its colon. It returns where the key ends, and where its value begins.
func skipKey(b []byte, i int) (end, value int, err error) {
	if b[i] != '"' {
		return i, i, &syntaxError{i, "want a key"}
	}
	if i, err = skipString(b, i+1); err != nil {
		return i, i, err
	}
	end = i - 1
	if i = skipSpace(b, i); i == len(b) {
		return end, i, errIncomplete
	}
	if b[i] != ':' {
		return end, i, &syntaxError{i, "want a colon"}
	}
	if i = skipSpace(b, i+1); i == len(b) {
		return end, i, errIncomplete
	}
	return end, i, nil
}

// skipValue reads the value at b[i], which lies inside depth arrays and objects.
func skipValue(b []byte, i, depth int) (int, error) {
	var (
		open    int    // how many arrays and objects are open in here
		objects uint64 // a bit for each, the lowest for the innermost: is it an object?
		err     error
	)
	for {
		more := false // does another value follow at once?
		switch c := b[i]; {
		case c == '"':
			i, err = skipString(b, i+1)
		case c != '{' && c != '[':
			i, err = skipScalar(b, i)
		case depth+open == maxDepth:
			return i, &syntaxError{i, "nested too deep"}
		case i+1 < len(b) && b[i+1] == c+2: // '}' or ']': most of managedFields is {}
			i += 2
		case open == 64:
			i, err = skipValue(b, i, depth+open)
		default:
			open++
			objects = objects<<1 | uint64(c>>5&1) // '{' and '}' are '[' and ']' with this bit set
			if i = skipSpace(b, i+1); i == len(b) {
				return i, errIncomplete
			}
			more = b[i] != c+2
		}
		if err != nil {
			return i, err
		}
		for !more {
			if open == 0 {
				return i, nil
			}
			if i+1 < len(b) && b[i] == ',' && b[i+1] > ' ' { // as always but in pretty printed JSON
				i++
				break
			}
			if i = skipSpace(b, i); i == len(b) {
				return i, errIncomplete
			}
			switch b[i] {
			case ',':
				more = true
				if i = skipSpace(b, i+1); i == len(b) {
					return i, errIncomplete
				}
			case ']' | byte(objects&1)<<5:
				open--
				objects >>= 1
				i++
			default:
				return i, &syntaxError{i, "want a comma or the end of the array or object"}
			}
		}
		if objects&1 != 0 {
			if end := plainKey(b, i); end > 0 {
				i = end + 2
			} else if _, i, err = skipKey(b, i); err != nil {
				return i, err
			}
		}
	}
}

// skipString reads a string from behind its opening quote.
func skipString(b []byte, i int) (int, error) {
	for {
		for ; i <= len(b)-8; i += 8 {
			if special := stops(binary.LittleEndian.Uint64(b[i : i+8])); special != 0 {
				i += bits.TrailingZeros64(special) / 8
				break
			}
		}
		if i == len(b) {
			return i, errIncomplete
		}
		switch c := b[i]; {
		case c == '"':
			return i + 1, nil
		case c == '\\':
			if i+1 < len(b) && escape[b[i+1]] != 0 {
				i += 2
			} else if err := checkCodeUnit(b, i); err != nil {
				return i, err
			} else {
				i += 6
			}
		case c < ' ':
			return i, &syntaxError{i, "a control character in a string"}
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && n == 1 {
				if !utf8.FullRune(b[i:]) {
					return i, errIncomplete
				}
				return i, &syntaxError{i, "invalid UTF-8 in a string"}
			}
			i += n
		}
	}
}

// stops has the high bit set in the lowest byte of x that is a quote, a backslash, a control character or not ASCII:
// that byte is the lowest to fall below 0, or keeps its high bit in one of the terms. Bytes above it may be set wrongly.
func stops(x uint64) uint64 {
	const ones = 0x0101010101010101
	swapped := x ^ 2*ones // '"' and ' ' change places, control characters among themselves
	slashes := x ^ '\\'*ones
	return ((swapped - '!'*ones) | (slashes - ones)) & (0x80 * ones)
}

// checkCodeUnit says whether b[i:] begins with an escape \uXXXX.
func checkCodeUnit(b []byte, i int) error {
	for j := i + 1; j < i+6; j++ {
		if j == len(b) {
			return errIncomplete
		}
		if j == i+1 && b[j] != 'u' || j > i+1 && !isDigit(b[j]) && b[j]|0x20-'a' > 5 {
			return &syntaxError{i, "an unknown escape"}
		}
	}
	return nil
}

// skipScalar reads a number, true, false or null.
func skipScalar(b []byte, i int) (int, error) {
	switch b[i] {
	case 't':
		return skipWord(b, i, "true")
	case 'f':
		return skipWord(b, i, "false")
	case 'n':
		return skipWord(b, i, "null")
	}
	return skipNumber(b, i)
}

func skipWord(b []byte, i int, word string) (int, error) {
	if bytes.HasPrefix(b[i:], []byte(word)) {
		return i + len(word), nil
	}
	if strings.HasPrefix(word, string(b[i:])) {
		return i, errIncomplete
	}
	return i, &syntaxError{i, "want a value"}
}

func skipNumber(b []byte, i int) (int, error) {
	var err error
	if b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if i, err = skipDigits(b, i, "want a value"); err != nil {
		return i, err
	}
	if i < len(b) && b[i] == '.' {
		if i, err = skipDigits(b, i+1, "want a digit"); err != nil {
			return i, err
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		return skipDigits(b, i, "want a digit")
	}
	return i, nil
}

// skipDigits reads one digit or more.
func skipDigits(b []byte, i int, problem string) (int, error) {
	if i == len(b) {
		return i, errIncomplete
	}
	if !isDigit(b[i]) {
		return i, &syntaxError{i, problem}
	}
	for i < len(b) && isDigit(b[i]) {
		i++
	}
	return i, nil
}

func isDigit(c byte) bool { return c-'0' <= 9 }

// onlySpace says whether anything but white space follows.
func onlySpace(b []byte, i int) error {
	if skipSpace(b, i) != len(b) {
		return &trailingError{i}
	}
	return nil
}

func skipSpace(b []byte, i int) int {
	if i < len(b) && b[i] <= ' ' {
		return skipSpaces(b, i)
	}
	return i
}

func skipSpaces(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}
