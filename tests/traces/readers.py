"""Every reader of trace files as a function of bytes, and small right files to begin mutating from; for fuzzing."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import lzma
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet as pq

from tests.traces import published
from traces import (
    ColumnMap,
    Counts,
    Trace,
    TraceError,
    load,
    read_azure2019,
    read_azure2021,
    read_azure_llm,
    read_gentd26,
    read_huawei2023,
    read_huawei2025,
    read_mapped,
    read_parquet,
    write_parquet,
)
from traces.huawei2025 import read_huawei2025_cold_starts

MAPPED = ColumnMap(time="t", time_unit="ms", function="f", duration="d", owner="o", trigger="g")
COUNTED = ColumnMap(time="t", function="f", count="d", delimiter=",", decimal=".")
ZONED = ColumnMap(time="t", time_unit="iso", end="e", time_zone="Europe/Berlin")
COMMAS = ColumnMap(time="t", time_unit="ns", function="f", duration="d", decimal=",")
DATED = ColumnMap(time="t", time_unit="iso", time_is="end", duration="d")

READERS: dict[str, Callable[[Path], Counts | Trace]] = {
    "any": load,
    "azure2019": read_azure2019,
    "azure2019-durations": lambda path: read_azure2019(_beside(path), path, _beside(path, "m.csv")),
    "azure2021": read_azure2021,
    "azure-llm": read_azure_llm,
    "gentd26": read_gentd26,
    "huawei2023": lambda path: read_huawei2023(path, bad_rows="repair"),
    "huawei2025": read_huawei2025,
    "cold-starts": lambda path: _cold_starts(path),
    "burstgpt": lambda path: load(path, family="burstgpt", bad_rows="repair"),
    "mooncake": lambda path: load(path, family="mooncake"),
    "swissai": lambda path: load(path, family="swissai", bad_rows="repair"),
    "chutes": lambda path: load(path, family="chutes-endpoints", bad_rows="repair"),
    "mapped": lambda path: read_mapped(path, MAPPED),
    "dated": lambda path: read_mapped(path, DATED),
    "zoned": lambda path: load(path, ZONED, bad_rows="repair"),
    "commas": lambda path: load(path, COMMAS, bad_rows="repair"),
    "counted": lambda path: load(path, COUNTED),
    "parquet": read_parquet,
}

_COUNTS = b"HashOwner,HashApp,HashFunction,Trigger,SampleWeight,1,2,3\no,a,f,timer,1,1,0,2\no,b,f,http,3,0,7,0\n"
_DURATIONS = (
    b"HashOwner,HashApp,HashFunction,Average,Minimum,Maximum,percentile_Average_0,percentile_Average_50\n"
    b"o,a,f,12.5,1,300,2,12\no,b,f,7,1,20,3,7\n"
)
_MEMORY = b"HashOwner,HashApp,AverageAllocatedMb,AverageAllocatedMb_pct1,AverageAllocatedMb_pct50\no,a,120,100,118\n"
_MAPPED = b"t,f,d,o,g,more\n1.5,a,0.25,x,http,1\n0,b,1e-3,y,timer,\n2500.0,a,3,x,http,z\n"
_DATED = b"t,d\n2026-01-31 12:00:00.5,1\n2026-01-31T12:00:01Z,0.5\n2026-02-01,2\n"


def _table(**columns: pa.Array) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def _zip(content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", content)
    return out.getvalue()


def _own_parquet() -> bytes:
    trace = Trace.build(
        names=["a", "b"],
        arrival_us=np.array([5, 3, 9]),
        arrival_function=np.array([0, 1, 0], np.int32),
        duration_us=np.array([1, 2, 3]),
        end_us=10,
        source="a test",
        licence="none",
        window="all",
        expansion="none",
    )
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        write_parquet(trace, file.name)
        return Path(file.name).read_bytes()


SEEDS: dict[str, tuple[bytes, ...]] = {
    "azure2019": (_COUNTS, gzip.compress(_COUNTS)),
    "azure2019-durations": (_DURATIONS,),
    "azure2021": (b"app,func,end_timestamp,duration\na,f,100.5,0.5\nb,g,103.0,4.0\nb,f,101.0,1.0\n",),
    "azure-llm": (
        b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50,396,109\n",
        published.AZURE_LMM_2025,
    ),
    "gentd26": (
        b"gmt_create,predict_status,exec_time_seconds,checkpoint_model_version_id\n"
        b"2024-11-15 16:57:50,SUCCEED,3.5,M1\n2024-11-15 16:57:51,FAILED,1,M2\n2024-11-15 16:58:51,PENDING,0,\n",
    ),
    "huawei2023": (published.HUAWEI_2023,),
    "huawei2025": (published.HUAWEI_REQUESTS,),
    "cold-starts": (published.HUAWEI_COLD_STARTS,),
    "burstgpt": (published.BURSTGPT, published.BURSTGPT_3),
    "mooncake": (published.MOONCAKE,),
    "swissai": (published.SWISSAI,),
    "chutes": (published.chutes(),),
    "mapped": (
        _MAPPED,
        gzip.compress(_MAPPED),
        _table(
            t=pa.array([1, 5, 2]),
            f=pa.array(["a", "b", "a"]).dictionary_encode(),
            d=pa.array([0.5, 1.0, 2.0]),
            o=pa.array(["x", "y", "x"]),
            g=pa.array(["h", "h", "h"]),
        ),
    ),
    "dated": (_DATED, _table(t=pa.array([1_000_000, 2_000_000], pa.timestamp("us")), d=pa.array([1, 2]))),
    "zoned": (
        b"t,e\n2026-10-25 02:30:00,2026-10-25 02:31:00.5\n2026-03-29 02:30:00,\n",
        b'{"t": "2026-10-25T02:30:00", "e": "2026-10-25 04:00"}\n{"t": "2026-03-29 02:30:00", "e": null}\n',
        _table(t=pa.array([1_000, 2_000], pa.timestamp("s")), e=pa.array([1_005, 2_000], pa.timestamp("s"))),
    ),
    "commas": (
        b"t;f;d\n1700000000123456789;a;0,5\n1700000000123456999;b;\n\n\n",
        bz2.compress(b"t;f;d\n1;a;0,5\n2;b;\n"),
        lzma.compress(b"t;f;d\n1;a;0,5\n2;b;\n"),
        pa.compress(b"t;f;d\n1;a;0,5\n2;b;\n", codec="zstd", asbytes=True),
        _zip(b"t;f;d\n1;a;0,5\n2;b;\n"),
        b'{"t": 1700000000123456789, "f": "a", "d": "0,5"}\n{"t": 1700000000123457789, "f": "b", "d": 1e2}\n',
        _table(t=pa.array([2**63, 2**63 + 5_000], pa.uint64()), f=["a", "b"], d=pa.array([1, None], pa.duration("ms"))),
    ),
    "counted": (b"t,f,d\n0,a,3\n61,b,20\n7200.5,a,0\n", _table(t=[0, 60], f=["a", "b"], d=[3, 4])),
    "parquet": (_own_parquet(), _table(function=pa.array(["a", "b"]), arrival_us=pa.array([1, 2]))),
}
FOUND: dict[str, tuple[bytes, ...]] = {
    # named like another function with its application
    "azure2019": (b"HashOwner,HashApp,HashFunction,1\no,a,f,1\no,b,f,1\no,c,a/f,1\n",),
    # its footer promises two rows, its pages have none
    "dated": (
        zlib.decompress(
            base64.b85decode(
                b"c-oay%Syvg5S^qU#Fc6Fh6I9SVS_?iZJ|Y^f|FX?VuMXV#ARtq6w%hST5#pUr61tJPjczfPw*qWH!o|eiyp!~lR1+)GZ)gvPJsx-"
                b"Ae${pkO7b@hxRHkJUwp&Ox8$-"
                b"C>GUaA`($orC3p=xK@F!KeFjGJyr~!o&v|E_<1J|Lhun2n0Ja5Rf=nw(_(hfNvo7V7012H!A+M4K!hx>a+B<O>m{RGp<9sZgCc0U"
                b"W|^SVk4hlQ8m%L|A}H^i^1+!6Q(A6ijV%C#XY0t6D%+xFf<VPz9{m}QH{Sf@mRt9K7v(jj2&NR30(Ls5=lkJBs9)R;L)k+L7ekyN"
                b"PSN)87}3LOAfas|IxMInHiN_uV;I^_^6os+rh7D~Rck?V%FY@lV4-~-"
                b"^>dgHEomn58HV%NF4OCXJv@q<Cr#X8FmD}aM~}jW%jT#3E*OXK@Bma})b;P~2a{ZHG|F{-"
                b"e>gQB2LAYJcxx2P`Q3a$vvdIZK#|^ZoBj>oDNc9;"
            )
        ),
    ),
    "parquet": (
        # the name of a column is no UTF-8
        zlib.decompress(
            base64.b85decode(
                b"c-"
                b"oaxJ5S?45S}%bWl)NM*wwD&!bPw^3h$>*DHunIcnYw1H^>PgAVK0wNFtrCxZ=ud?>|vcQt)qJ*3L^n!&mIg?#z7O?C"
                b"u<5u*gk5$>kmym;e~dFaQYkQsTfTxX4l@%`I*@YcS19l7-"
                b"{r6diR9T201A3`%f$rpJ)Z>EbtnPSE(sBkf*9+N|pdnEvAQvy#fKg0!0D+sZ@8P2j01L)tg3TKWH7y*34Vj@C2ja4c"
                b"*z?%Lt~RjUcYRF2Ae;P8}M1uLzRl1D1xhA_o%@t1iy&mO*^()|KAboXg8IU=!?2PO$<CR44%OhY;`*E16@%zI|uKlZ"
                b"(geiEGN$%!W-"
                b"_H6NLfO2FCgW%xoNAd*nk1?;YUPZzYCfG&npkKuzViogo2z?)MUpslk?f76|F>(Eq{(k?MNH@qS<O^|8OkKb}>N@kb"
                b"T-%ARABxTM<<nmYNk{W<Y27aTqb_MNj$fePN%|-Z`t|)Fw$(vD{ig7;cG|jF4x-"
                b"Z13U=c|rHCNiC~W*}RUT){Q8Y{6QSZ3zN~1}?>n^R$EzB*dERBVpj7@s^Lz?+_zaohf"
            )
        ),
        # a group of rows promises 46 thousand million of them
        zlib.decompress(
            base64.b85decode(
                b"c-pm7O>fgc5S=xS6{;N4inVMh2g_=$BDsa8q=+g9#!&)+RJ0Ziv<M+5P197h9r7sw2M!#OxbS262^@Ol0B2780xlIWYdarO)g$k)"
                b"Gv1wj^Y-m}7u^jm^BY{NQGg|Yg=Gc+o){V&_!3ubZvSV<Jj)fX<hEdyH8kceE>idFhD4*x*foiy8GL!7Fk2Mj2&q4RBfv!Gghxxq"
                b"1t4kZq!v_IO-o5Wo1O1OHD6>^vC{R=DbQ^#HRyRiTiOMCYX+X*>YLlf3)3@g!)%x@X$;3ft0!hZU4iOp*sl78QN!Qw)JoVn%AXAn"
                b"AH)aJiv`e>e)FW|dt3&dSs|^*!=O3ngux2ba-@jMG`ZmQdYzGX_G;J%Rn~L5Z9$G_^a3bZeYS;5s;s_KKQOCkrRR;*g)P7(VN#Yt"
                b"kw_HX62}F>BqvOBeIl-Nrha4AIkP@8^7FEDSNeIW;mt`q^{b>_{P_Lry99bp%b@E%dA1!}puLxF3EXWXVGm<GMjWHl#tLE^OVJWK"
                b"4&shTN{H2HViqw@o&D+e&Ql`2M@hL<jy6TqWt<`ul_$;MQTNEN^q+6m-^3(i!T(V7P2lV$q?Ks>0G)BHqde2=IBpc%Gd)vLco@`&"
                b"2b*rUk-vk<`rKAT(2TCvdp&Fo)|%b!8eK;?Hb(Tq=yr|#*81)B4c(?^AzsFPa(<V7-G7-;#3c"
            )
        ),
        # an arrival after 200,000 years
        zlib.decompress(
            base64.b85decode(
                b"c-oaxJ5S?45S}%bWug=Tv8!Flg$uAi3UGv{PzuITqT?mN0`9m5IUxijNK76?LKGB~{4fg2EAHpqtZkAAXqaMWcD|kOo86s543@ab"
                b"r?}iB2a^DqX$AnHUaB1UBo}!?a@^vUvj(%QDp@!&LFl+^&}uR^X3znbProzdid4*?o4?3FVjp>=ZKQ~_SsDqL{UZBWNflQ?TAkWe"
                b"{Wjz#@a&8s?aN-X*1c{uXJF6KdL|_^VY_{OAKskzIv`BtsJsUb&#G0ha%xz@4PlB$@yxuUXOG@c>3)G5y89ftB9U0i1Cs<albJG&"
                b"=)_!aO#Efu8}nY+_b&QLaPD1Byb`fzi+=_vM`key4t{MWPavO+MQ!U1Bs;>yb`ksNH?V@(z)}pM?<4N(poF*`Cx#xA&_5aM_m7Em"
                b"gMxCY92dpZWgJ*bpS-FyccP2iO6T|T=|e)&*Ze=VZfgEfN?M8WGxYmOALU`cz8}QCG3;m16#i+R_Rf}rs9IRT6dx%?1nEX$`>t2-"
                b"&ex)7p1z~ickk=%4*jlMSX=n9u%z-d7J4$a=;aS-=KllE`Gy1"
            )
        ),
        # a text has the number 1 in a dictionary of none
        zlib.decompress(
            base64.b85decode(
                b"c-oa!-EQJW6dprjvAem*u4-hYTp+ZIQYpKO?EoRl%@_hP8#{sBK%lBN{=*n-!(t4<ZQr5~5LK$w7pT;S=rdG(fIdJ~wN+=v5YlF&"
                b"YDaj6^PMx_cV^DPoWmx^Y%rfO*`Lt@o&m7?<LkfDj~f6`000$F8UvVT%=0~lX138o?-al;rLmOy^eI@zKav25A%mu<IE9FE%;6~t"
                b"z2#%S2jD6WHo+qhjTpH4mAax3Gm>62vx!vzn}{#JCBg1T(6u(sHPVj7pM!_QW9U5b{}Yej%20R2@1qZkr%v;LrG33`x++5hX6r?a"
                b"P4og!pV}ku1vuS7vCIYnAFGpzJyV_cfgb@+j9{YTD2ycO)K2Os3wD^TR36aVsWl0+m86qjCvT{1J)5{&iqsyiAQJ;<+D6L}BB4`R"
                b"KqE=aw6SEu$~TcR;rfM2{y}B`rm{a!pLYNE1V8_n+}(5C(fd7~{Vx7#SN^bG@~4d?olPXa-9$m`=5(U!Ci^G#RmM|Y)6X2HzsRVW"
                b"y>v#)e2M1K+%qQ;ia~-+C$?qXLru>>StE?gA<G{H6Wv5sMomvme~QB#TQ|K3^hTbEp}FlDqd5t491NJ(W7YG~4cv|LP18WO7dQ^G"
                b"^pQ6;z3KbD>i2P!Q7rI$i5GHwPf$yykXKE;m=g>^H}hsGUnunSLXp#p2M0o4(2GSbSIp&v(!R+RdYYhfnQs8Q1)I&Y_F>eE><#@I"
                b"4-S?ggbf&tHxTYa(SlV7Em*b)CW`;^&+&SE>#sD#$X>A!zl2wjtb|0yJ{$<ov0p4oZoaRzTcI=<S?xu=FWGZTawYrnEnZ84=C&64"
                b"LMljA-zGl0Zk(2(ZJgA{UEXkXPqxo&QIl-Rm&&Vst)N>iab#cRc#h+B9@(zqU>(Ulwv1XUG|G5S-B;U+quu)QGtIrQi3aZk-C9YA"
                b"@T#vx@s4>S_BBr#Yy3XahPLLGg6>=53%l*s5XWm?3&rDHl$qu=9rX0nS~XP5D5r9LsDzz`JQyzI5H7j{rGM7G2$go#>4f@R<{M#$"
                b"zu>y>hMY3!x}C5i$Zc6Tt5~7(P8lenel1r}Tt&_+wTo-T?b<RgUrSytDipr|ljfp>&IMPcsAEu+iJw#=L`6TqB`cGniK}|9hL6Fa"
                b"aar#hHD{(d=>F#75Vs0(Uo0z)#8BhZAk<-HNq$SxkVq$-teb)i(l52@LU$d$)4uK*mnf|_gJnKZ`k1Fi`lf?Zld)Z0lZaxIoJYb&"
                b"{lENps&zS3)12Ba1rcgRIBYD}b$^ygiq>j-M2e5LJPKgbV|DT&FsCo|@%SZrOOEF08G0w6Uv8Q&yvn`eQb*|h9eu!Wn*f}nf6spa"
                b"pew1<"
            )
        ),
    ),
}
"""Inputs that a fuzzer found and that a reader once crashed on."""

SEEDS["any"] = tuple(seed for seeds in SEEDS.values() for seed in seeds)


def _cold_starts(path: Path) -> Trace:
    """As a trace, for want of another form."""
    found = read_huawei2025_cold_starts(path)
    return Trace.from_requests(found.time_us / 1e6, [found.functions[f] for f in found.function], source=str(path))


def _beside(path: Path, name: str = "i.csv") -> Path:
    beside = path.with_name(name)
    beside.write_bytes(_MEMORY if name == "m.csv" else _COUNTS)
    return beside


def read(name: str, data: bytes, path: Path) -> Counts | Trace | str:
    """What a reader makes of some bytes, or why it refuses them; any other error is a bug.

    Args:
        name: of :data:`READERS`.
        data: the file.
        path: where to put it.
    """
    path.write_bytes(data)
    try:
        return READERS[name](path)
    except TraceError as error:
        return str(error)


def check(found: Counts | Trace | str, path: Path) -> None:
    """A refusal names the file; a trace is one that holds together (which building it has checked), and not empty."""
    if isinstance(found, str):
        assert str(path.parent) in found, found
    elif isinstance(found, Counts):
        assert found.counts.min(initial=0) >= 0
        assert len(found.names) == len(found.counts) > 0
    else:
        assert len(found.names) > 0
        assert found.arrival_us.min(initial=0) >= 0
