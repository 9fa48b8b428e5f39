// Package compose holds no code, only the check of docker-compose.yml: with the
// parser that Compose itself uses, and with the millrace binary that its
// services run.
package compose
