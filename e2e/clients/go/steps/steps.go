// Package steps prints one line for each step of a program: `step: outcome`. The first word of a step says what kind it is.
package steps

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sort"
	"strings"
	"time"
)

// Versions prints what is tested, by the modules that are built in.
func Versions(modules ...string) {
	info, _ := debug.ReadBuildInfo()
	var all []string
	for _, module := range modules {
		for _, dependency := range info.Deps {
			if dependency.Path == module {
				all = append(all, strings.TrimPrefix(module, "github.com/")+" "+dependency.Version)
			}
		}
	}
	fmt.Println("# versions: " + strings.Join(all, ", "))
}

// URL is where to connect to.
func URL() string {
	return fmt.Sprintf("postgres://%s:%s@%s:%s/%s?sslmode=disable&application_name=orders",
		os.Getenv("PGUSER"), os.Getenv("PGPASSWORD"), os.Getenv("PGHOST"), os.Getenv("PGPORT"), os.Getenv("PGDATABASE"))
}

// Shown is a value as text that is the same in every run.
func Shown(value any) string {
	switch value := value.(type) {
	case nil:
		return "null"
	case []byte:
		return "0x" + hex.EncodeToString(value)
	case string:
		return strings.NewReplacer("\\", "\\\\", "\n", "\\n").Replace(value)
	case time.Time:
		return value.UTC().Format(time.RFC3339Nano)
	case *time.Time:
		if value == nil {
			return "null"
		}
		return Shown(*value)
	case *string:
		if value == nil {
			return "null"
		}
		return Shown(*value)
	case []any:
		return list(len(value), func(i int) any { return value[i] })
	case [][]any:
		return list(len(value), func(i int) any { return value[i] })
	case []string:
		return list(len(value), func(i int) any { return value[i] })
	case map[string]any:
		var keys, texts []string
		for key := range value {
			keys = append(keys, key)
		}
		sort.Strings(keys)
		for _, key := range keys {
			texts = append(texts, key+": "+Shown(value[key]))
		}
		return "{" + strings.Join(texts, ", ") + "}"
	default:
		return Shown(fmt.Sprint(value))
	}
}

func list(length int, at func(int) any) string {
	texts := make([]string, length)
	for i := range texts {
		texts[i] = Shown(at(i))
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

// State is the SQLSTATE of an error, whatever wraps it.
func State(err error) string {
	var stated interface{ SQLState() string }
	if errors.As(err, &stated) {
		return stated.SQLState()
	}
	return ""
}

func report(name string, outcome any) {
	fmt.Println(name + ": " + Shown(outcome))
}

// Step runs a step; what it returns is its outcome.
func Step(name string, call func() (any, error)) {
	outcome, err := call()
	if err != nil {
		report(name, fmt.Sprintf("FAILED %s %v", State(err), err))
		return
	}
	report(name, outcome)
}

// Expect runs a step that the server refuses: its outcome is the SQLSTATE.
func Expect(name string, call func() error) {
	err := call()
	switch {
	case err == nil:
		report(name, "FAILED no error")
	case State(err) == "":
		report(name, "FAILED "+err.Error())
	default:
		report(name, State(err))
	}
}
