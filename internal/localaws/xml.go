package localaws

import (
	"bytes"
	"encoding/xml"
	"strconv"
)

// xmlWriter builds an answer of the query protocol.
type xmlWriter struct{ bytes.Buffer }

func (w *xmlWriter) open(name string)  { w.tag("<", name) }
func (w *xmlWriter) close(name string) { w.tag("</", name) }

func (w *xmlWriter) tag(start, name string) {
	w.WriteString(start)
	w.WriteString(name)
	w.WriteByte('>')
}

func (w *xmlWriter) text(name, value string) {
	w.open(name)
	// Writing to a buffer cannot fail.
	_ = xml.EscapeText(&w.Buffer, []byte(value))
	w.close(name)
}

func (w *xmlWriter) bool(name string, value bool) { w.text(name, strconv.FormatBool(value)) }

// inside writes what body writes between an element's tags.
func (w *xmlWriter) inside(name string, body func()) {
	w.open(name)
	body()
	w.close(name)
}

// textMap writes a map of plain values as entry elements, in the order of their names.
func (w *xmlWriter) textMap(name string, values map[string]string) {
	w.inside(name, func() {
		for _, key := range sortedKeys(values) {
			w.inside("entry", func() {
				w.text("key", key)
				w.text("value", values[key])
			})
		}
	})
}

// queryAnswer wraps a result the way the query protocol does; a nil result writes an answer without one.
func queryAnswer(namespace, action, requestID string, result func(*xmlWriter)) []byte {
	w := &xmlWriter{}
	w.WriteString(`<` + action + `Response xmlns="` + namespace + `">`)
	if result != nil {
		w.inside(action+"Result", func() { result(w) })
	}
	w.inside("ResponseMetadata", func() { w.text("RequestId", requestID) })
	w.close(action + "Response")
	return w.Bytes()
}

func queryError(namespace, requestID string, e *apiError) []byte {
	w := &xmlWriter{}
	w.WriteString(`<ErrorResponse xmlns="` + namespace + `">`)
	w.inside("Error", func() {
		w.text("Type", e.faultName())
		w.text("Code", e.queryCode())
		w.text("Message", e.message)
	})
	w.text("RequestId", requestID)
	w.close("ErrorResponse")
	return w.Bytes()
}
