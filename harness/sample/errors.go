package sample

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"google.golang.org/grpc/status"
)

// maxErr bounds the text of an error in the record, in bytes.
const maxErr = 160

// statusError is an answer that is not a 2xx.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return e.text }

// explain puts an error of a request into one short line that begins with its
// class: timeout, refused, reset, closed, unreachable, tls or other; or with the
// code of the answer.
func explain(err error) string {
	if err == nil {
		return ""
	}
	var answered *statusError
	if errors.As(err, &answered) {
		return answered.text
	}
	class := "other"
	var (
		timeout net.Error
		record  tls.RecordHeaderError
		alert   tls.AlertError
		cert    *tls.CertificateVerificationError
		unknown x509.UnknownAuthorityError
	)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		class = "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		class = "reset"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		class = "unreachable"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		class = "timeout"
	case errors.As(err, &record), errors.As(err, &alert), errors.As(err, &cert), errors.As(err, &unknown):
		class = "tls"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed),
		strings.Contains(err.Error(), "http2: "): // net/http does not export its HTTP/2 errors
		class = "closed"
	}
	return short(class + ": " + err.Error())
}

// rpcError is explain for an error of etcd's client: what the server or gRPC
// said, without gRPC's wrapping.
func rpcError(err error) string { return short(status.Convert(err).Message()) }

// short is text on one line, cut at maxErr bytes.
func short(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxErr {
		text = strings.ToValidUTF8(text[:maxErr], "") + "..."
	}
	return text
}

// outcome says, as Jepsen does, what became of a write that got this answer:
// ok (acknowledged), fail (surely not written) or unknown. sent says that a
// connection was had, so that the request may have left.
//
// An answer of 4xx is a refusal, except 409: a name is used once, so that a
// conflict means that an attempt which the transport made again had been
// written. 5xx may come after the write: etcd's timeouts are 5xx.
func outcome(code int, sent bool) string {
	switch {
	case code >= 200 && code < 300:
		return writeOK
	case code == 409 || code >= 500, code == 0 && sent:
		return writeUnknown
	default:
		return writeFail
	}
}

// The outcomes of a write.
const (
	writeOK      = "ok"
	writeFail    = "fail"
	writeUnknown = "unknown"
)
