"""All benchmarks, with the figures that are told of them and the aim of each; and the plots. Data, no code."""

from __future__ import annotations

from benchmarks.suite.values import Benchmark, Figure, Plot

MIXTURE = {"kind": "mixture"}

BENCHMARKS = (
    # Throughput and scale
    Benchmark(
        name="encode",
        quick=("--count", "8", "--rounds", "1"),
        minutes=8,
        usual=True,
        figures=(
            Figure(
                key="embed_over_loop",
                claim="`embed` over a loop with `CLIPModel`, ViT-B/32, JPEGs of 600 px",
                at=("embed_over_loop",),
                unit="×",
                least=5,
            ),
            Figure(
                key="embed_over_data_loader",
                claim="`embed` over open_clip with a `DataLoader`, float32",
                at=("embed_over_data_loader",),
                unit="×",
                least=4,
            ),
            Figure(
                key="cosine_mean",
                claim="Mean cosine of its vectors to float32",
                at=("cosine_mean",),
                least=0.999,
            ),
            Figure(
                key="embed_over_bound",
                claim="… over its bound: decoding alone and the bare forward pass alone",
                at=("embed_over_bound",),
                least=0.9,
            ),
            *(
                Figure(key=f"openvino_{key}", claim=claim, at=("openvino", key), unit=unit, least=least)
                for key, claim, unit, least in (
                    ("embed_over_loop", '`embed` with `backend="openvino"` over the loop', "×", 5),
                    ("embed_over_data_loader", "… over open_clip with a `DataLoader`, float32", "×", 4),
                    ("embed_over_bound", "… over its bound", "", 0.9),
                    ("cosine_mean", "… mean cosine to float32", "", 0.999),
                )
            ),
            Figure(key="openvino", at=("images_per_second", "embed, openvino"), unit="images/s"),
            Figure(key="loop", at=("images_per_second", "loop"), unit="images/s"),
            Figure(key="data_loader", at=("images_per_second", "data loader"), unit="images/s"),
            Figure(key="embed", at=("images_per_second", "embed"), unit="images/s"),
        ),
    ),
    Benchmark(
        name="fidelity",
        arguments=("{aid}", "{encoder}"),
        quick=("{aid}", "{encoder}"),
        minutes=1,
        figures=tuple(
            Figure(
                key=f"{backend}_{dtype}",
                claim=f"Captions that find the same ten scenes as in float32 by torch: {dtype} by {name}",
                at=("rows", {"backend": backend, "dtype": dtype}, "same_top_10"),
                least=0.99,
            )
            for backend, name in (("torch", "torch"), ("openvino", "OpenVINO"))
            for dtype in ("float32", "bfloat16")
            if (backend, dtype) != ("torch", "float32")
        ),
    ),
    Benchmark(
        name="encode_peers",
        quick=("--count", "8", "--rounds", "1"),
        minutes=12,
        usual=True,
        figures=(
            Figure(
                key="over_sentence_transformers",
                claim="`embed` over `SentenceTransformer.encode`, the same weights and files",
                at=("embed_over", "sentence-transformers"),
                unit="×",
            ),
            Figure(
                key="over_lancedb",
                claim="`embed` over LanceDB's OpenCLIP embedding function, the same weights and files",
                at=("embed_over", "LanceDB OpenCLIP"),
                unit="×",
            ),
            Figure(key="loop", at=("images_per_second", "CLIPModel loop"), unit="images/s"),
            Figure(key="data_loader", at=("images_per_second", "open_clip + DataLoader"), unit="images/s"),
            Figure(key="sentence_transformers", at=("images_per_second", "sentence-transformers"), unit="images/s"),
            Figure(key="lancedb", at=("images_per_second", "LanceDB OpenCLIP"), unit="images/s"),
            Figure(key="embed", at=("images_per_second", "geovlm.embed"), unit="images/s"),
        ),
    ),
    Benchmark(
        name="caption",
        arguments=("{aid}",),
        quick=("{aid}", "--count", "2", "--turns", "1", "--tokens", "4"),
        minutes=15,
        usual=True,
        figures=(
            Figure(
                key="over_loop",
                claim="`caption` over a loop with `BlipForConditionalGeneration`, BLIP base, as geovlm runs it here",
                at=("results", {"way": "geovlm.caption, bfloat16"}, "over_loop"),
                unit="×",
                least=3,
            ),
            Figure(
                key="over_loop_float32",
                claim="… in float32, too",
                at=("results", {"way": "geovlm.caption, float32"}, "over_loop"),
                unit="×",
            ),
            Figure(key="loop", at=("results", {"way": "loop, float32"}, "images_per_s"), unit="images/s"),
            Figure(key="float32", at=("results", {"way": "geovlm.caption, float32"}, "images_per_s"), unit="images/s"),
            Figure(
                key="bfloat16", at=("results", {"way": "geovlm.caption, bfloat16"}, "images_per_s"), unit="images/s"
            ),
        ),
    ),
    Benchmark(
        name="search",
        quick=("--rows", "3000", "--queries", "5", "--callers", "1", "8"),
        minutes=25,
        usual=True,
        figures=(
            *(
                Figure(
                    key=f"{store}_{key}_{callers}_{percentile}",
                    claim=f"Text to hits among 1,000,000, `{kind}`, {condition}, {callers} at once: {percentile}",
                    at=(
                        "results",
                        {"store": store, "queries": "near", "filter": part, "callers": callers},
                        f"{percentile}_ms",
                    ),
                    unit="ms",
                    most=aim,
                )
                for store, kind in (("numpy", "NumpyStore"), ("lance", "LanceStore"))
                for key, part, condition in (("all", "none", "no filter"), ("filter", "1 %", "1 % pass a filter"))
                for callers in (1, 8)
                for percentile, aim in (("p50", 50), ("p99", 150))
            ),
            Figure(key="peer", at=("results", {"store": "open_clip and NumPy"}, "p50_ms"), unit="ms"),
        ),
    ),
    Benchmark(
        name="ray_workers",
        quick=("--count", "40", "--batch-size", "4", "--rounds", "1"),
        minutes=10,
        usual=True,
        figures=(
            Figure(
                key="two_over_one",
                claim="`embed` on Ray: two workers of one thread over one",
                at=("two_over_one",),
                unit="×",
                least=1.7,
            ),
            Figure(
                key="overhead_ms",
                claim="… what Ray costs a batch",
                at=("overhead_ms",),
                unit="ms",
            ),
        ),
    ),
    Benchmark(
        name="embed_overhead",
        quick=("--counts", "1000", "2000", "--rates", "1000", "--seconds", "0.5"),
        minutes=10,
        usual=True,
        figures=(
            Figure(
                key="share",
                claim="What `embed` itself takes of the time, encoder of 70 images/s (ViT-B/32 on two cores)",
                at=("share", {"rate": 70}, "share"),
                most=0.03,
            ),
            *(
                Figure(
                    key=key,
                    claim=f"… encoder of {rate:,} images/s (a GPU)",
                    at=("share", {"rate": rate}, "share"),
                    most=0.03,
                )
                for key, rate in (("share_thousand", 1000), ("share_gpu", 5000))
            ),
            Figure(
                key="growth",
                claim="… processor time an image at 1,000,000 images over that at 1,000",
                at=("growth", {"images": 1_000_000}, "embed_us"),
                over=("growth", {"images": 1000}, "embed_us"),
                unit="×",
                most=1.1,
            ),
            Figure(
                key="microseconds",
                claim="… processor time of bookkeeping an image",
                at=("growth", {"images": 100_000}, "bookkeeping_us"),
                unit="µs",
            ),
        ),
    ),
    Benchmark(
        name="embed_memory",
        quick=("--counts", "20", "40"),
        minutes=5,
        usual=True,
        figures=(
            Figure(
                key="growth",
                claim="Most memory of `embed` at 1,000, 10,000 and 100,000 images: the largest over the smallest",
                at=("largest_over_smallest",),
                unit="×",
                most=1.1,
            ),
            Figure(
                key="most",
                claim="… at 100,000 images, 1,000 of them broken",
                at=("rows", {"images": 100_000}, "most_mib"),
                unit="MiB",
            ),
        ),
    ),
    # Stores
    Benchmark(
        name="stores_numpy",
        quick=("--rows", "20000", "--kinds", "mixture", "--queries", "20", "--no-open"),
        minutes=25,
        usual=True,
        figures=(
            Figure(
                key="over_faiss",
                claim="`NumpyStore` over faiss `IndexFlatIP`, one query, 1,000,000 × 512 (`mixture`)",
                at=("results", MIXTURE, "one_query_ms", "faiss"),
                over=("results", MIXTURE, "one_query_ms", "geovlm"),
                unit="×",
                least=4,
            ),
            Figure(
                key="over_usearch",
                claim="`NumpyStore` over usearch exact, one query",
                at=("results", MIXTURE, "one_query_ms", "usearch"),
                over=("results", MIXTURE, "one_query_ms", "geovlm"),
                unit="×",
                least=8,
            ),
            Figure(
                key="over_faiss_32",
                claim="… 32 queries at once, over faiss",
                at=("results", MIXTURE, "32_queries_ms", "faiss"),
                over=("results", MIXTURE, "32_queries_ms", "geovlm"),
                unit="×",
                least=3,
            ),
            Figure(key="recall", claim="… recall@10", at=("results", MIXTURE, "recall"), least=0.999),
            Figure(
                key="filter_1",
                claim="… one query with a filter that 1 % pass",
                at=("results", MIXTURE, "filter_1%_ms"),
                unit="ms",
            ),
            Figure(key="geovlm", at=("results", MIXTURE, "one_query_ms", "geovlm"), unit="ms"),
            Figure(key="faiss", at=("results", MIXTURE, "one_query_ms", "faiss"), unit="ms"),
            Figure(key="usearch", at=("results", MIXTURE, "one_query_ms", "usearch"), unit="ms"),
        ),
    ),
    Benchmark(
        name="stores_lance",
        arguments=("--kinds", "mixture"),
        quick=("--rows", "20000", "--kinds", "mixture", "--queries", "20"),
        minutes=10,
        figures=(
            Figure(
                key="query",
                claim="`LanceStore`, one query, 1,000,000 × 512 (`mixture`)",
                at=("results", MIXTURE, "query", "median_ms"),
                unit="ms",
                most=15,
            ),
            Figure(key="recall", claim="… recall@10", at=("results", MIXTURE, "query", "recall"), least=0.99),
            Figure(
                key="rows_a_second",
                claim="… rows written a second, into an empty store",
                at=("results", MIXTURE, "ingest_rows_per_second"),
                unit="rows/s",
                least=50_000,
            ),
            Figure(
                key="flush",
                claim="… first flush, which makes the indexes",
                at=("results", MIXTURE, "flush_with_index_seconds"),
                unit="s",
            ),
        ),
    ),
    Benchmark(
        name="stores_astra",
        quick=("--documents", "200", "--rounds", "2"),
        minutes=5,
        figures=(
            Figure(
                key="share",
                claim="Processor time of `AstraStore.upsert` over astrapy's `insert_many`",
                at=("insert_many", "share"),
                most=0.5,
            ),
            Figure(
                key="documents_a_second",
                claim="… documents a second from one client to a local stand-in",
                at=("AstraStore.upsert", "documents_a_second"),
                unit="documents/s",
            ),
        ),
    ),
    Benchmark(
        name="stores_growth",
        quick=("--sizes", "1000", "5000", "--stores", "numpy", "lance"),
        minutes=15,
        figures=(
            Figure(
                key="numpy_million",
                claim="`NumpyStore`, one query among 1,000,000 rows, after growing",
                at=("results", {"store": "numpy", "rows": 1_000_000}, "query_ms"),
                unit="ms",
            ),
            Figure(
                key="lance_million",
                claim="`LanceStore`, the same",
                at=("results", {"store": "lance", "rows": 1_000_000}, "query_ms"),
                unit="ms",
            ),
        ),
    ),
    # Training
    Benchmark(
        name="train",
        quick=("--batches", "4", "--precisions", "float32", "--words", "12", "--turns", "1", "--steps", "1"),
        minutes=40,
        figures=(
            Figure(
                key="short",
                claim="`ContrastiveTrainer.fit` over open_clip's loop, ViT-B/32, captions of at most 12 words",
                at=("rows", {"batch": 32, "precision": "bfloat16", "words": 12}, "ratio"),
                unit="×",
            ),
            Figure(
                key="full",
                claim="… captions that fill the context",
                at=("rows", {"batch": 32, "precision": "bfloat16", "words": 75}, "ratio"),
                unit="×",
                least=1,
            ),
        ),
    ),
    Benchmark(
        name="train_shards",
        file="train",
        arguments=("--shards", "--batches", "32"),
        quick=(
            "--shards",
            "--batches",
            "4",
            "--precisions",
            "float32",
            "--words",
            "12",
            "--turns",
            "1",
            "--steps",
            "1",
        ),
        minutes=20,
        figures=(
            Figure(
                key="over_preloaded",
                claim="Training from shards over training from pixels in memory",
                at=("rows", {"batch": 32, "precision": "bfloat16", "words": 12}, "ratio"),
                unit="×",
                least=0.95,
            ),
        ),
    ),
    Benchmark(
        name="train_memory",
        arguments=("--small", "8"),
        quick=("--small", "2", "--times", "2"),
        minutes=10,
        figures=(
            Figure(
                key="large_over_small",
                claim="Memory of 16 times the batch, by `micro_batch_size`",
                at=("large_over_small",),
                unit="×",
            ),
        ),
    ),
    Benchmark(
        name="train_losses",
        arguments=("{aid}", "--epochs", "40", "--losses", "multi-positive", "infonce"),
        quick=("{aid}", "--epochs", "1", "--losses", "infonce", "--seeds", "0"),
        minutes=60,
        out="losses",
        result="losses/losses.json",
    ),
    Benchmark(
        name="shards",
        arguments=("--counts", "1000", "10000", "100000"),
        quick=("--counts", "100", "200"),
        minutes=20,
        figures=(
            Figure(
                key="pairs_a_second",
                claim="Pairs decoded and augmented from shards, a second of one core",
                at=("10000", "shards", "pairs_a_processor_second"),
                unit="pairs/s",
            ),
        ),
    ),
    Benchmark(
        name="shards_fit",
        file="shards",
        arguments=("--fit", "--counts", "1000", "10000", "100000"),
        quick=("--fit", "--counts", "100", "200"),
        minutes=60,
        figures=(
            Figure(
                key="growth",
                claim="Peak memory of training from shards, 100,000 pairs over 1,000",
                at=("largest peak over smallest",),
                unit="×",
                most=1.05,
            ),
        ),
    ),
    # Pixtral
    Benchmark(
        name="pixtral_prepare",
        quick=("--count", "40", "--rounds", "1"),
        minutes=10,
        figures=(
            Figure(
                key="over_pillow",
                claim="Preparing a Pixtral batch over Pillow's own decode, resize and encode",
                at=("speed_over_pillow",),
                unit="×",
                least=0.9,
            ),
            Figure(key="peak", claim="… most memory, 8,000 scenes", at=("peak_mb",), unit="MB", most=300),
        ),
    ),
    # Quality
    Benchmark(
        name="classify",
        arguments=("{embeddings}",),
        quick=("{embeddings}", "--seeds", "1"),
        minutes=5,
        figures=tuple(
            Figure(
                key=f"{method}_{model.lower()}",
                claim=f"WHU-RS19, {method}, {model} ViT-B/32: top-1",
                at=({"data": f"{model} ViT-B/32", "what": f"{method}, no labels"}, "top1"),
                unit="%",
                least=published,
            )
            for model, method, published in (
                ("CLIP", "inductive", None),
                ("CLIP", "transductive", 90.35),
                ("SkyCLIP50", "inductive", None),
                ("SkyCLIP50", "transductive", 97.81),
            )
        ),
    ),
    Benchmark(
        name="classify_million",
        file="classify",
        arguments=("--million",),
        quick=("--million", "--images", "5000"),
        minutes=5,
        figures=(
            Figure(
                key="seconds",
                claim="Transductive inference over 1,000,000 images, 100 classes",
                at=(0, "seconds"),
                unit="s",
            ),
            Figure(key="peak_gib", claim="… most memory", at=(0, "peak_gib"), unit="GiB"),
        ),
    ),
    Benchmark(name="search_quality", arguments=("{embeddings}",), quick=("{embeddings}",), minutes=3),
    Benchmark(
        name="curate",
        arguments=("{aid}",),
        quick=("{aid}", "--epochs", "1"),
        minutes=25,
        figures=(
            Figure(
                key="caught",
                claim="Wrong captions that `curate` finds, when it drops the tenth with the lowest score",
                at=("single captions", "curate|0.1", 0),
            ),
        ),
    ),
    Benchmark(
        name="protocol",
        quick=("--images", "50", "--captions", "200", "--scenes", "500", "--classes", "5"),
        minutes=2,
        figures=(
            Figure(
                key="difference",
                claim="Largest difference of recall, accuracy and intervals to torchmetrics, scikit-learn and SciPy",
                at=(0, "largest difference"),
            ),
        ),
    ),
    # Detection
    Benchmark(
        name="raster",
        arguments=("--sides", "2000", "20000"),
        quick=("--sides", "1000"),
        minutes=15,
        figures=(
            Figure(
                key="windows",
                claim="Windows of 448 px read from a GeoTIFF of 20,000 px, a second of one core",
                at=("deflate, tiles", "20000", "geovlm", "a_processor_second"),
                unit="windows/s",
                least=80,
            ),
        ),
    ),
    Benchmark(
        name="detect_planted",
        arguments=("--size", "8000"),
        quick=("--size", "1000", "--epochs", "1", "--windows", "64", "--train-size", "1000"),
        minutes=10,
        figures=(
            Figure(
                key="ap50",
                claim="Planted objects found by scores of cells, AP50",
                at=("rows", {"scores of": "cells"}, "AP50"),
            ),
            Figure(
                key="over_windows",
                claim="… over scores of windows",
                at=("rows", {"scores of": "cells"}, "AP50"),
                over=("rows", {"scores of": "windows"}, "AP50"),
                unit="×",
                least=2,
            ),
        ),
    ),
    Benchmark(
        name="detect_mosaic",
        arguments=("--data", "{aid}", "--encoder", "{encoder}"),
        quick=("--data", "{aid}", "--limit", "30"),
        minutes=10,
    ),
    Benchmark(
        name="dense",
        quick=("--models", "ViT-B-32", "--count", "2", "--rounds", "1"),
        minutes=3,
        figures=(
            Figure(
                key="cost",
                claim="Time of `encode_dense` over `encode_pixels`, ViT-B/32",
                at=({"model": "ViT-B-32"}, "cost"),
                unit="×",
            ),
        ),
    ),
    Benchmark(
        name="scan",
        quick=("--sizes", "1000"),
        minutes=30,
        figures=(
            Figure(
                key="peak",
                claim="Most memory of `scan`, 20,000 × 20,000 px, ViT-B/32",
                at=("rows", {"size": 20_000, "model": "ViT-B-32"}, "peak_mb"),
                unit="MiB",
                most=1536,
            ),
            Figure(
                key="share",
                claim="… the model's share of the time",
                at=("rows", {"size": 20_000, "model": "ViT-B-32"}, "share_of_model"),
            ),
        ),
    ),
)

PLOTS = (
    Plot(
        name="caption",
        peers=1,
        title="Captions of 20 tokens by BLIP base, 2 cores",
        unit="images a second",
        bars=(
            ("a loop, float32", "caption.loop"),
            ("geovlm.caption,\nfloat32", "caption.float32"),
            ("geovlm.caption,\nbfloat16", "caption.bfloat16"),
        ),
    ),
    Plot(
        name="search",
        peers=1,
        title="From a text to ranked records among 1,000,000, one caller, 2 cores",
        unit="milliseconds, median",
        bars=(
            ("open_clip and\nNumPy by hand", "search.peer"),
            ("LanceStore", "search.lance_all_1_p50"),
            ("NumpyStore", "search.numpy_all_1_p50"),
        ),
    ),
    Plot(
        name="encode",
        peers=2,
        title="Encoding a folder of 600 px JPEGs, ViT-B/32, 2 cores",
        unit="images a second",
        bars=(
            ("CLIPModel,\none at a time", "encode.loop"),
            ("open_clip +\nDataLoader", "encode.data_loader"),
            ("geovlm.embed", "encode.embed"),
            ("geovlm.embed,\nOpenVINO", "encode.openvino"),
        ),
    ),
    Plot(
        name="encode_peers",
        peers=4,
        title="Five ways to encode the same folder with the same weights",
        unit="images a second",
        bars=(
            ("CLIPModel,\none at a time", "encode_peers.loop"),
            ("LanceDB's\nOpenCLIP function", "encode_peers.lancedb"),
            ("sentence-transformers", "encode_peers.sentence_transformers"),
            ("open_clip +\nDataLoader", "encode_peers.data_loader"),
            ("geovlm.embed", "encode_peers.embed"),
        ),
    ),
    Plot(
        name="stores_numpy",
        peers=2,
        title="One query among 1,000,000 × 512 vectors in memory",
        unit="milliseconds",
        bars=(
            ("faiss IndexFlatIP", "stores_numpy.faiss"),
            ("usearch exact", "stores_numpy.usearch"),
            ("NumpyStore", "stores_numpy.geovlm"),
        ),
    ),
    Plot(
        name="train",
        title="ContrastiveTrainer.fit over open_clip's own loop, ViT-B/32, bfloat16",
        unit="times as fast",
        bars=(("captions that\nfill the context", "train.full"), ("at most 12 words", "train.short")),
        aim=1,
    ),
)
