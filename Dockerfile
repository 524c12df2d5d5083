# Three images from one file: train (CUDA), serve (no torch), ci (CPU torch). How to build and run: docs/container.md.

# Another base needs Python 3.11 or newer as `python`, with venv, on a Debian.
ARG BASE=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM ${BASE} AS base
LABEL org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/switchback/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# The uid is fixed, so that a volume can be given to it before there is a container.
RUN groupadd --gid 10001 switchback \
    && useradd --uid 10001 --gid switchback --create-home --shell /usr/sbin/nologin switchback

# What an environment needs beside the package changes with the pins only. So it is a layer of its own, and the package
# is a small one that lies over it, at the same place.
FROM base AS environment
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore \
    PIP_CONSTRAINT="/build/constraints.txt /build/tools.txt"
WORKDIR /build
COPY pyproject.toml README.md LICENSE constraints.txt deploy/images/tools.txt deploy/images/install ./
COPY ci_tools/__init__.py ci_tools/
# Files that the package takes along from elsewhere in the repository; its own layer brings what is in them.
RUN mkdir -p .github/workflows && touch release.yaml
RUN python -m venv /opt/tools && /opt/tools/bin/pip install --quiet cyclonedx-bom

FROM environment AS package
COPY ci_tools ci_tools
COPY .github/workflows .github/workflows
COPY release.yaml .
RUN ./install --no-deps .

FROM environment AS environment-train
# Empty: the build of torch that the package index itself has, which is the one for CUDA.
ARG TORCH_INDEX=
RUN ./install ".[train,energy,report]"

FROM environment AS environment-ci
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN ./install ".[train,energy,report,track,serve,dev]"

FROM environment AS environment-serve
RUN ./install ".[serve]"

FROM base AS repository
# DVC needs git. Debian keeps only the newest version of a package, so there is none to pin.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*
# A repository is mounted here, whoever owns it. Its own ci_tools, if it has one, comes before the installed one.
WORKDIR /repository
RUN chown switchback:switchback /repository
ENV PYTHONPATH=/repository \
    GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=/repository

FROM repository AS train
COPY --from=environment-train /opt/switchback /opt/switchback
COPY --from=environment-train /usr/share/sbom /usr/share/sbom
COPY --from=package /opt/switchback /opt/switchback
USER 10001:10001
CMD ["switchback", "reproduce"]
ARG VERSION=unknown REVISION=unknown SOURCE=unknown
LABEL org.opencontainers.image.title="switchback train" org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" org.opencontainers.image.source="${SOURCE}"

FROM repository AS ci
COPY --from=environment-ci /opt/switchback /opt/switchback
COPY --from=environment-ci /usr/share/sbom /usr/share/sbom
COPY --from=package /opt/switchback /opt/switchback
USER 10001:10001
CMD ["switchback", "doctor"]
ARG VERSION=unknown REVISION=unknown SOURCE=unknown
LABEL org.opencontainers.image.title="switchback ci" org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" org.opencontainers.image.source="${SOURCE}"

FROM base AS serve
COPY --from=environment-serve /opt/switchback /opt/switchback
COPY --from=environment-serve /usr/share/sbom /usr/share/sbom
COPY --from=package /opt/switchback /opt/switchback
COPY release.yaml /etc/switchback/
RUN install --directory --owner=switchback --group=switchback --mode=0700 /var/lib/switchback
VOLUME /var/lib/switchback
WORKDIR /etc/switchback
USER 10001:10001
EXPOSE 8000
# Any answer counts: before the first bundle Envoy has nobody to ask, and a restart would not change that.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-I", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=2); c.request('GET', '/v2/health/live'); c.getresponse()"]
ENTRYPOINT ["switchback", "serve", "--home", "/var/lib/switchback"]
ARG VERSION=unknown REVISION=unknown SOURCE=unknown
LABEL org.opencontainers.image.title="switchback serve" org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" org.opencontainers.image.source="${SOURCE}"
