package main

import "github.com/millrace/millrace/services/internal/quietterm"

// The packages that would have asked the terminal something are initialised.
func init() { quietterm.Restore() }
