"""Small files in the form in which the authors of public traces publish them, known defects included.

Numbers are made up, or rows that the authors show; what each test expects of them is worked by hand there.
"""

from __future__ import annotations

import io
import pickle
from typing import Any

import pyarrow as pa
from pyarrow import parquet as pq

# naive, seven decimals, CR LF, no newline at the end
AZURE_LLM_2023 = (
    b"TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    b"2023-11-16 18:15:46.6805900,374,44\r\n2023-11-16 18:15:50.9951690,396,109"
)
# an offset, and no fraction where it is zero
AZURE_LLM_2024 = (
    b"TIMESTAMP,ContextTokens,GeneratedTokens\n"
    b"2024-05-10 00:00:00.009930+00:00,2162,5\n2024-05-10 00:00:01+00:00,2399,6\n"
)
AZURE_LMM_2025 = (
    b"TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n"
    b"2024-10-15T12:00:00.053Z,1,1000,10\n2024-10-15T12:00:00.099Z,0,500,20\n2024-10-15T12:00:01Z,3,40,1\n"
)
# of the first two files; times are whole seconds, and a request without response tokens failed
BURSTGPT = (
    b"Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    b"5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,1087,230,1317,Conversation log\n"
    b"118,GPT-4,417,276,693,Conversation log\n120,GPT-4,300,0,300,API log\n"
)
# of the third, which says how long a request took
BURSTGPT_3 = (
    b"Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    b"10.0,3d6f,3.5,ChatGPT,472,18,490,Conversation log\n12.5,,0.25,GPT-4,10,0,10,API log\n"
    b"20.0,3d6f,,ChatGPT,1,2,3,Conversation log\n"
)
MOONCAKE = (
    b'{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1, 2, 13]}\n'
    b'{"timestamp": 3000, "input_length": 7322, "output_length": 490, "hash_ids": [0, 14]}\n'
    b'{"timestamp": 3000, "input_length": 100, "output_length": 1, "hash_ids": []}\n'
)
SWISSAI = (
    b'{"id": "a-1", "status": "DEFAULT", "created_at": "2024-07-17 13:56:49.399", "finished_at": '
    b'"2024-07-17 13:56:50.527", "model": "meta-llama/Meta-Llama-3-8B-Instruct", "model_parameters": {"top_p": 1}, '
    b'"reported_token_input": 23, "reported_token_output": 38}\n'
    b'{"id": "a-2", "status": "ERROR", "created_at": "2024-07-17 13:57:00", "finished_at": "2024-07-17 13:57:00.5", '
    b'"model": "Qwen/Qwen3-32B", "model_parameters": {}, "reported_token_input": -1, "reported_token_output": -1}\n'
    b'{"id": "a-3", "status": "DEFAULT", "created_at": "2024-07-17 13:57:10.000", "finished_at": null, '
    b'"model": "Qwen/Qwen3-32B", "model_parameters": {}, "reported_token_input": -1, "reported_token_output": -1}\n'
)
# rows 1 to 3 are those of the schema and the notebook; the last two have no record of the frontend
HUAWEI_REQUESTS = (
    b"time_worker,time_frontend,requestID,clusterName,funcName,podID,userID,totalCost_worker,workerCost,runtimeCost,"
    b"totalCost_frontend,frontendCost,busCost,readBodyCost,writeRspCost,cpu_usage,memory_usage,requestBodySize\n"
    b"2592000.02,2592000.021,b54c,3,411,pool22-300-128-0000177166,301,0.000931,0.000103,0.000829,0.002367,0.000531,"
    b"0.000585,2.5e-05,9e-06,0.059806,34.23828,2.0\n"
    b"2592000.034,2592000.037,9878,3,34,pool22-300-128-0000014767,83,0.001416,0.000646,0.00077,0.011992,0.000377,"
    b"0.009904,1.8e-05,8e-06,0.0,26.699219,120.0\n"
    b"2592090.0,2592090.002,763f,4,411,pool24-600-512-0000618412,301,0.5,0.0,0.5,0.502,0.0,0.0,0.0,0.0,0.2,32.3,9.0\n"
    b"2592100.995,,6097,4,411,pool22-300-128-0000177166,301,0.036471,0.000103,0.036368,,,,,,0.179856,32.32422,\n"
    b"2592101.02,,dcd6,4,411,pool22-300-128-0000177166,301,0.024943,0.000103,0.02484,,,,,,0.238961,32.32422,\n"
)
HUAWEI_COLD_STARTS = (
    b"day,time,clusterName,funcName,userID,requestID,totalCost_cold_start,podAllocationCost,deployCodeCost,"
    b"deployDependencyCost,schedulingCost,podID\n"
    b"0,51937.425,1,10,134,82f1,2.239314,0.027161815,0.045,0.454,1.713152185,pool24-600-512-0000577863\n"
    b"30,2592089.5,4,411,301,763f,0.4,0.1,0.05,0.05,0.2,pool24-600-512-0000618412\n"
    b"30,2592089.6,4,411,301,763f,0.6,0.1,0.05,0.25,0.2,pool24-600-512-0000618413\n"
)
# a row a minute, a column a function, empty cells
HUAWEI_2023 = b"day,time,0,1,2\n0,0,3.0,,1\n0,60,0.0,2.0,\n0,180,5.0,1.0,0\n"


class Planted:
    """An object that runs code when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return exec, ("raise AssertionError('code of a pickle ran')",)


IBM = pickle.dumps([{"NamespaceHash": "n", "AppHash": "a", "InvocationTimes": [1.5, 2.0]}, Planted()], protocol=4)


def chutes() -> bytes:
    """Four requests to two models at two instances; the trace's time begins in 1970, and cells may be empty."""

    def at(*seconds: float | None) -> pa.Array:
        return pa.array([None if second is None else int(second * 1e6) for second in seconds], pa.timestamp("us"))

    columns = {
        "invocation_id": ["i1", "i2", "i3", "i4"],
        "function_name": ["chat", "chat", None, "embed"],
        "chute_id": ["m1", "m1", "m2", "m1"],
        "user_id": ["u", "u", "v", None],
        "rehash_round": pa.array([0, 0, 0, 1]),
        "instance_id": ["x", "y", None, "x"],
        "started_at": at(0.0, 1.0, 2.0, 100.0),
        "completed_at": at(4.0, 7.0, None, 101.5),
        "it": pa.array([10, 20, None, 5]),
        "ot": pa.array([1, 2, None, 5]),
        "ct": pa.array([0, 0, None, 5]),
        "ttft": pa.array([0.5, 9.0, None, 0.1]),
    }
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()
