# The program and nothing else: make image

ARG GO_VERSION=1.26
# A mirror of it, or another base without a shell: --build-arg BASE=...
ARG BASE=gcr.io/distroless/static-debian12:nonroot

# Go cross-compiles: the compiler runs on the builder's own processor whatever the image is for.
FROM --platform=$BUILDPLATFORM docker.io/library/golang:$GO_VERSION AS build
WORKDIR /src
# Alone, since modules change less often than code: a layer that most builds find in the cache.
COPY go.mod go.sum ./
RUN go mod download
COPY cmd cmd
COPY internal internal
# Not further up: a new version would download the modules again.
ARG TARGETOS TARGETARCH VERSION=devel
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o bin/watcher ./cmd/watcher

FROM $BASE
ARG VERSION=devel
LABEL org.opencontainers.image.title="watcher" \
      org.opencontainers.image.description="Change data capture for Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION"
COPY --from=build /src/bin/watcher /watcher
# As a number: runAsNonRoot cannot tell who a name is.
USER 65532:65532
ENTRYPOINT ["/watcher"]
CMD ["run"]
