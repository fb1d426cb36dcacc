package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/go-logr/logr"
	"github.com/go-logr/zapr"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"
	"k8s.io/klog/v2"
)

// newLogger returns the logger of the diagnostics, which captures client-go's as well.
func newLogger(level, format string, stderr *os.File) (*zap.Logger, error) {
	lvl, err := zapcore.ParseLevel(level)
	if err != nil {
		return nil, &usageError{fmt.Sprintf("--log-level %q: must be debug, info, warn or error", level)}
	}
	if format == "" {
		format = "json"
		if term.IsTerminal(int(stderr.Fd())) {
			format = "text"
		}
	}
	conf := zap.NewProductionEncoderConfig()
	conf.TimeKey, conf.EncodeTime = "time", zapcore.RFC3339NanoTimeEncoder
	conf.MessageKey = "message"
	var enc zapcore.Encoder
	switch format {
	case "json":
		enc = zapcore.NewJSONEncoder(conf)
	case "text":
		conf.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05")
		conf.EncodeLevel = zapcore.CapitalLevelEncoder
		conf.ConsoleSeparator = " "
		enc = zapcore.NewConsoleEncoder(conf)
	default:
		return nil, &usageError{fmt.Sprintf("--log-format %q: must be text or json", format)}
	}
	log := zap.New(zapcore.NewCore(enc, zapcore.Lock(stderr), lvl))
	captured := zapr.NewLogger(log.WithOptions(zap.IncreaseLevel(zapcore.ErrorLevel)))
	klog.SetLogger(captured.WithSink(wanted{captured.GetSink()}))
	return log, nil
}

// A wanted sink leaves out what client-go says of requests that we have cancelled ourselves.
type wanted struct{ logr.LogSink }

// Error implements logr.LogSink.
func (w wanted) Error(err error, message string, keysAndValues ...any) {
	if !errors.Is(err, context.Canceled) {
		w.LogSink.Error(err, message, keysAndValues...)
	}
}
