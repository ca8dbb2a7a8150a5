"""What is claimed, by which arms it is tried, and what would have to come out."""

from bench.claims.study import Claim, Expected

RATES = {"learning_rate": 4e-4}
SECOND = {"steps": 16, "minibatch": 64, "optimizer": RATES, "objective": {"type": "grpo", "negative_scale": 0.2}}
"""A stage after rl-accuracy, as the quickstart's second is laid out, with the policy gradient in place of likelihood."""
SHORT = {"steps": 18, "problems": 32, "minibatch": 64}
"""Less than half of the quickstart's first stage: enough to tell the arms apart."""
STEPS = "0.3 * tool_success"

CLAIMS: dict[str, Claim] = {
    "otc": Claim(
        papers="#18",
        says="OTC's product cuts calls at equal accuracy, where a summed penalty on calls trades accuracy.",
        start="rl-accuracy",
        common={**SECOND, "credit": "group_mean"},
        arms={
            "accuracy": {"reward": "correct"},
            "product": {"reward": "otc"},
            "sum": {"reward": "correct - 0.3 * calls"},
        },
        expected=(
            Expected(measure="needless_calls", first="product", sign="-", second="accuracy"),
            Expected(measure="accuracy", first="product", sign="=", second="accuracy"),
            Expected(measure="accuracy", first="sum", sign="-", second="product"),
        ),
    ),
    "channels": Claim(
        papers="#118",
        says="An efficiency advantage of its own, among right attempts alone, saves calls that a scalar penalty cannot.",
        start="rl-accuracy",
        common=SECOND,
        arms={
            "scalar": {"reward": "correct + 0.15 * gate(correct, fewest_turns_when_right)", "credit": "group"},
            "penalty": {"reward": "correct - 0.15 * turns", "credit": "group"},
            "channels": {
                "reward": "channels(accuracy=correct, efficiency=fewest_turns_when_right)",
                "credit": "per_channel(weights={'accuracy': 1.0, 'efficiency': 0.15})",
            },
        },
        expected=(
            Expected(measure="needless_calls", first="channels", sign="-", second="scalar"),
            Expected(measure="accuracy", first="channels", sign="+", second="scalar"),
            Expected(measure="accuracy", first="channels", sign="+", second="penalty"),
        ),
    ),
    "min_form": Claim(
        papers="#40",
        says="Where the step reward can be had for nothing, its sum makes the policy collapse; its minimum doesn't.",
        start="sft",
        common={**SHORT, "reward": f"correct + {STEPS}"},
        arms={
            "outcome": {"reward": "correct"},
            "sum": {"credit": "returns(baseline='leave_one_out')"},
            "min": {"credit": "pure"},
        },
        expected=(
            Expected(measure="accuracy", first="min", sign="+", second="sum"),
            Expected(measure="calls", first="min", sign="-", second="sum"),
        ),
    ),
    "noise": Claim(
        papers="#53 #197",
        says="Rewards of which 40 % are flipped still teach, and correcting for the rates helps.",
        start="sft",
        common={**SHORT, "credit": "group_mean", "objective": {"type": "grpo", "negative_scale": 1.0}},
        arms={
            "clean": {"reward": "correct"},
            "flipped": {"reward": "flipped(correct, rate=0.4)"},
            "backward": {"reward": "backward(flipped(correct, rate=0.4), false_positive=0.4, false_negative=0.4)"},
            "forward": {
                "reward": "forward(flipped(correct, rate=0.4), false_negative=0.4)",
                "credit": "reinforce",  # the correction is a weight in place of an advantage: no baseline
                "dynamic_sampling": False,
            },
            "none": {"reward": "flipped(correct, rate=0.5)"},
        },
        expected=(
            Expected(measure="accuracy", first="flipped", sign="+", second="none"),
            Expected(measure="accuracy", first="backward", sign="+", second="flipped"),
            Expected(measure="accuracy", first="forward", sign="+", second="flipped"),
        ),
    ),
    "gate": Claim(
        papers="#67",
        says="Step rewards that count only past a gate on the outcome are not hacked.",
        start="sft",
        arms={
            "outcome": {"reward": "correct"},
            "sum": {"reward": f"correct + {STEPS}"},
            "gate": {"reward": f"correct + gate(correct, {STEPS})"},
        },
        expected=(
            Expected(measure="accuracy", first="gate", sign="+", second="sum"),
            Expected(measure="unanswered", first="gate", sign="-", second="sum"),
        ),
    ),
    "fine_calls": Claim(
        papers="#4",
        says="Rewarding names, parameters and values of calls one by one beats an exact match of all of them.",
        start="sft",
        common=SHORT,
        arms={"fine": {"reward": "toolrl"}, "exact": {"reward": "exact_calls"}},
        expected=(Expected(measure="accuracy", first="fine", sign="+", second="exact"),),
    ),
    "strata": Claim(
        papers="#155",
        says="Where trajectories differ in kind, comparing within the kind beats comparing all.",
        start="sft",
        common=SHORT,
        arms={"global": {"credit": "group"}, "stratified": {"credit": "stratified"}},
        expected=(Expected(measure="accuracy", first="stratified", sign="+", second="global"),),
    ),
    "turns": Claim(
        papers="#8 #79 #117 #135",
        says="On longer horizons credit by turn beats one advantage for all turns.",
        start="sft",
        common=SHORT,
        arms={
            "broadcast": {"credit": "group"},
            "information_gain": {"reward": "information_gain", "credit": "igpo"},
            "steps": {"reward": "correct + 0.1 * tool_success"},
            "forks": {
                "reward": "correct + 0.1 * tool_success",
                "credit": "portool",
                "rollout": {"type": "tree", "roots": 2},
            },
            "matching": {"reward": "matchtir", "credit": "matchtir"},
        },
        expected=(
            Expected(measure="accuracy_lookup", first="information_gain", sign="+", second="broadcast"),
            Expected(measure="accuracy_lookup", first="forks", sign="+", second="steps"),
            Expected(measure="accuracy_lookup", first="matching", sign="+", second="broadcast"),
        ),
    ),
    "calibration": Claim(
        papers="#156",
        says="A Brier term calibrates the stated confidence at equal accuracy.",
        start="sft-confidence",
        common=SHORT,
        arms={"correct": {"reward": "correct"}, "brier": {"reward": "rlcr"}},
        expected=(
            Expected(measure="accuracy", first="brier", sign="=", second="correct"),
            Expected(measure="brier", first="brier", sign="-", second="correct"),
            Expected(measure="calibration_error", first="brier", sign="-", second="correct"),
        ),
    ),
    "length": Claim(
        papers="#92",
        says="A length penalty in the groups that are right often enough keeps the accuracy that a penalty everywhere costs.",
        start="sft",
        common=SHORT,
        arms={
            "none": {"reward": "correct"},
            "everywhere": {"reward": "grpo_lambda(gate=False)"},
            "gated": {"reward": "grpo_lambda"},
        },
        expected=(
            Expected(measure="accuracy", first="gated", sign="+", second="everywhere"),
            Expected(measure="tokens", first="gated", sign="-", second="none"),
        ),
    ),
    "self_imitation": Claim(
        papers="#12",
        says="An intrinsic tool reward that fades out while self-imitation fades in beats plain GRPO.",
        start="sft",
        common={**SHORT, "credit": "group_mean"},
        arms={
            "grpo": {"reward": "correct"},
            "intrinsic": {"reward": "correct + spear_tool(until=9, each=0.05)"},
            "spear": {
                "reward": "correct + spear_tool(until=9, each=0.05)",
                "objective": {
                    **{"type": "grpo", "negative_scale": 0.2, "dual_clip": 10.0},
                    "covariance": {"type": "clip", "share": 0.02, "low": 0.2, "high": 40.0},
                },
                "replay": {
                    **{"capacity": 256, "fraction": 0.25, "only_with_calls": True, "when_full": True, "warmup": 18},
                    "recalibration": {"history": 512},
                },
            },
        },
        expected=(
            Expected(measure="accuracy", first="spear", sign="+", second="grpo"),
            Expected(measure="accuracy", first="spear", sign="+", second="intrinsic"),
        ),
    ),
    "curriculum": Claim(
        papers="#87 #170",
        says="Problems chosen by how the policy does teach more than problems drawn evenly.",
        start="sft",
        common=SHORT,
        arms={
            "even": {"curriculum": {"type": "uniform"}},
            "weakest": {"curriculum": {"type": "weakest"}},
            "bands": {"curriculum": {"type": "bands"}},
            "edge": {"curriculum": {"type": "edge"}},
        },
        expected=(
            Expected(measure="accuracy", first="weakest", sign="+", second="even"),
            Expected(measure="accuracy", first="bands", sign="+", second="even"),
            Expected(measure="accuracy", first="edge", sign="+", second="even"),
        ),
    ),
    "replay": Claim(
        papers="#12 #223",
        says="Learning again from past successes teaches more than fresh attempts alone.",
        start="sft",
        common={**SHORT, "credit": "group_mean"},
        arms={
            "fresh": {},
            "replay": {"replay": {"capacity": 512, "fraction": 0.25}},
            "likely": {"replay": {"capacity": 512, "fraction": 0.25, "probability": [0.5, 0.95]}},
        },
        expected=(
            Expected(measure="accuracy", first="replay", sign="+", second="fresh"),
            Expected(measure="accuracy", first="likely", sign="+", second="fresh"),
        ),
    ),
}
