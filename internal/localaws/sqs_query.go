package localaws

import (
	"encoding/base64"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// wireField is one field of an SQS shape as the query protocol names it.
type wireField struct {
	name, key, value string
	index            int
}

func queryFields(t reflect.Type) []wireField {
	fields := make([]wireField, 0, t.NumField())
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			fields = append(fields, wireField{index: i})
			continue
		}
		w := wireField{name: f.Name, index: i}
		if tag := f.Tag.Get("query"); tag != "" {
			parts := strings.Split(tag, ",")
			w.name = parts[0]
			if len(parts) == 3 {
				w.key, w.value = parts[1], parts[2]
			}
		}
		fields = append(fields, w)
	}
	return fields
}

// decodeQuery fills an SQS shape from a form of the query protocol.
func decodeQuery(f *form, into any) error { return decodeStruct(f, reflect.ValueOf(into).Elem()) }

func decodeStruct(f *form, v reflect.Value) error {
	for _, field := range queryFields(v.Type()) {
		target := v.Field(field.index)
		if field.name == "" {
			if err := decodeStruct(f, target); err != nil {
				return err
			}
			continue
		}
		child := f.at(field.name)
		if child == nil {
			continue
		}
		if err := decodeValue(child, target, field); err != nil {
			return fmt.Errorf("%s: %w", field.name, err)
		}
	}
	return nil
}

func decodeValue(f *form, v reflect.Value, field wireField) error {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return decodeValue(f, v.Elem(), field)
	case reflect.String:
		v.SetString(f.value)
	case reflect.Int:
		n, err := strconv.Atoi(f.value)
		if err != nil {
			return fmt.Errorf("%q is not a number", clip(f.value))
		}
		v.SetInt(int64(n))
	case reflect.Struct:
		return decodeStruct(f, v)
	case reflect.Slice:
		return decodeSlice(f, v, field)
	case reflect.Map:
		return decodeMap(f, v, field)
	}
	return nil
}

func decodeSlice(f *form, v reflect.Value, field wireField) error {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		raw, err := base64.StdEncoding.DecodeString(f.value)
		v.SetBytes(raw)
		return err
	}
	items, err := f.list()
	if err != nil {
		return err
	}
	v.Set(reflect.MakeSlice(v.Type(), len(items), len(items)))
	for i, item := range items {
		if err := decodeValue(item, v.Index(i), field); err != nil {
			return err
		}
	}
	return nil
}

func decodeMap(f *form, v reflect.Value, field wireField) error {
	pairs, err := f.pairs(field.key, field.value)
	if err != nil {
		return err
	}
	v.Set(reflect.MakeMapWithSize(v.Type(), len(pairs)))
	for name, child := range pairs {
		item := reflect.New(v.Type().Elem()).Elem()
		if err := decodeValue(child, item, field); err != nil {
			return err
		}
		v.SetMapIndex(reflect.ValueOf(name), item)
	}
	return nil
}

// encodeQuery writes an SQS shape as the elements of the query protocol, leaving out what is empty.
func encodeQuery(w *xmlWriter, from any) { encodeStruct(w, reflect.Indirect(reflect.ValueOf(from))) }

func encodeStruct(w *xmlWriter, v reflect.Value) {
	for _, field := range queryFields(v.Type()) {
		child := v.Field(field.index)
		switch {
		case field.name == "":
			encodeStruct(w, child)
		case child.IsZero() && child.Kind() != reflect.Bool:
		default:
			encodeValue(w, child, field)
		}
	}
}

func encodeValue(w *xmlWriter, v reflect.Value, field wireField) {
	switch v.Kind() {
	case reflect.Struct:
		w.inside(field.name, func() { encodeStruct(w, v) })
	case reflect.Map:
		encodeMap(w, v, field)
	case reflect.Slice:
		if raw, ok := v.Interface().([]byte); ok {
			w.text(field.name, base64.StdEncoding.EncodeToString(raw))
			return
		}
		for i := range v.Len() {
			encodeValue(w, v.Index(i), field)
		}
	default:
		w.text(field.name, fmt.Sprint(v.Interface()))
	}
}

func encodeMap(w *xmlWriter, v reflect.Value, field wireField) {
	names := make(map[string]reflect.Value, v.Len())
	for _, key := range v.MapKeys() {
		names[key.String()] = v.MapIndex(key)
	}
	for _, name := range sortedKeys(names) {
		w.inside(field.name, func() {
			w.text(field.key, name)
			encodeValue(w, names[name], wireField{name: field.value})
		})
	}
}
