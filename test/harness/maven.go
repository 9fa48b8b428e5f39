package harness

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed poms/*.xml
var poms embed.FS

// copyDependencies is pinned, for without a version Maven takes the newest.
const copyDependencies = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"

// mavenFolder returns a cached folder with the runtime dependencies of the
// embedded pom NAME.xml. The pom's digest is part of the folder's name: another
// version is another folder.
func mavenFolder(name string, args ...string) (string, error) {
	dir, err := Cache()
	if err != nil {
		return "", err
	}
	return mavenFolderIn(dir, name, args...)
}

// mavenFolderIn is mavenFolder with a cache of its own.
func mavenFolderIn(dir, name string, args ...string) (string, error) {
	pom, err := poms.ReadFile("poms/" + name + ".xml")
	if err != nil {
		return "", fmt.Errorf("read pom %s: %w", name, err)
	}
	sum := sha256.Sum256(pom)
	return cached(dir, name+"-"+hex.EncodeToString(sum[:4]), func(dir string) error {
		mvn, err := exec.LookPath("mvn")
		if err != nil {
			return &MissingError{Part: name, Reason: "Maven, which fetches it, is not installed", Install: "apt-get install -y maven"}
		}
		return runMaven(mvn, name, pom, dir, args)
	})
}

func runMaven(mvn, name string, pom []byte, dir string, args []string) error {
	file := filepath.Join(dir, "pom.xml")
	if err := os.WriteFile(file, pom, 0o644); err != nil {
		return fmt.Errorf("write pom: %w", err)
	}
	args = append([]string{"-B", "-q", "-f", file, copyDependencies,
		"-DoutputDirectory=" + filepath.Join(dir, "libs"), "-DincludeScope=runtime"}, args...)
	out, err := exec.Command(mvn, args...).CombinedOutput()
	if err != nil {
		return &MissingError{Part: name, Reason: fmt.Sprintf("Maven cannot fetch it: %v\n%s", err, tail(out, 2000)),
			Install: "mvn -f test/harness/poms/" + name + ".xml dependency:resolve (needs Maven Central or a mirror)"}
	}
	return nil
}

// java returns the path of a Java runtime, JAVA_HOME first.
func java(part string) (string, error) {
	if home := os.Getenv("JAVA_HOME"); home != "" {
		if path := filepath.Join(home, "bin", "java"); isFile(path) {
			return path, nil
		}
	}
	path, err := exec.LookPath("java")
	if err != nil {
		return "", &MissingError{Part: part, Reason: "no Java runtime (17 or newer)", Install: "apt-get install -y openjdk-17-jre-headless"}
	}
	return path, nil
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func tail(b []byte, n int) []byte {
	if len(b) > n {
		return b[len(b)-n:]
	}
	return b
}
