package sample

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
)

// maxBody bounds what is read of an answer, in bytes: the objects that samples
// touch are below 2 KiB.
const maxBody = 64 << 10

var errTooLong = errors.New("the answer is longer than any that was asked for")

// reply is what a request came to. Err is empty if the answer was a 2xx and
// came to its end.
type reply struct {
	// Code is 0 if no whole answer came.
	Code int
	Body []byte // of writes, and of reads that want it
	Err  string
}

// exchange makes a request and reads its answer to the end, so that the answer
// was whole and the connection can be used again.
func exchange(rt http.RoundTripper, req *http.Request) reply {
	return answered(rt, req, req.Method != http.MethodGet)
}

// answered is exchange that keeps a good answer's body or not.
func answered(rt http.RoundTripper, req *http.Request, keep bool) reply {
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return reply{Err: explain(err)}
	}
	defer resp.Body.Close()
	good := resp.StatusCode >= 200 && resp.StatusCode <= 299
	var body bytes.Buffer
	to := io.Writer(&body)
	if good && !keep {
		to = io.Discard
	}
	n, err := io.Copy(to, io.LimitReader(resp.Body, maxBody))
	if err == nil && n == maxBody {
		err = errTooLong
	}
	switch {
	case err != nil:
		return reply{Err: short(explain(err) + fmt.Sprintf(" (after the header of a %d)", resp.StatusCode))}
	case !good:
		return reply{Code: resp.StatusCode, Err: refusal(resp.StatusCode, body.Bytes())}
	}
	return reply{Code: resp.StatusCode, Body: body.Bytes()}
}

// refusal is the text of an answer that is a Kubernetes Status, or its first
// bytes if it is none.
func refusal(code int, body []byte) string {
	var status struct{ Reason, Message string }
	if json.Unmarshal(body, &status) != nil || status.Message == "" {
		status.Message = string(body)
	}
	text := strconv.Itoa(code)
	if status.Reason != "" {
		text += " " + status.Reason
	}
	if status.Message != "" {
		text += ": " + status.Message
	}
	return short(text)
}
