# deltavlm-monitor in a container: its commands, a Prefect server of the same version, and a worker. docs/deploy.md tells how.
#     docker build --tag deltavlm-monitor .
#     docker build --tag deltavlm-monitor:cuda --build-arg DEVICE=cuda .
# Which build of PyTorch comes is a matter of the package index: --build-arg PIP_INDEX_URL=... names one, as for pip.
FROM python:3.11.14-slim-bookworm

# cpu or cuda: the build of PyTorch that is meant. An image of the other one is not made.
ARG DEVICE=cpu
# Beyond the plain package; docs/install.md lists them.
ARG EXTRAS=docx,openai
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL

# GDAL, as rasterio brings it, wants this one of the system. Of Debian's release only this version is there to be had.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libexpat1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 deltavlm \
    && install --directory --owner=deltavlm /data

WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE prefect.yaml ./
COPY model ./model
COPY pipeline ./pipeline
COPY flows ./flows
COPY configs ./configs
# Left where it lies: prefect.yaml names files of this folder.
RUN pip install --no-cache-dir --constraint constraints.txt --editable ".[${EXTRAS}]" \
    && python -c "import sys, torch; sys.exit(None if (torch.version.cuda is None) == ('${DEVICE}' == 'cpu') else 'this index gave PyTorch for CUDA %s, and DEVICE is ${DEVICE}: name another PIP_INDEX_URL' % torch.version.cuda)"

ENV PYTHONUNBUFFERED=1 \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001
# No HEALTHCHECK: most commands end by themselves. compose.yaml has those of the services.
ENTRYPOINT []
CMD ["deltavlm", "--help"]
