"""The models of pipelines.yaml: one module a stage. Importing them imports nothing heavy."""

from journeyman.config.compute import ComputeConfig, SamplerConfig, TorchSampler, VllmSampler
from journeyman.config.curate import CurateConfig
from journeyman.config.evaluate import EvaluateConfig
from journeyman.config.model import ModelConfig, PretrainedModel, ScratchModel
from journeyman.config.objective import GrpoObjective, NllObjective, ObjectiveConfig
from journeyman.config.pipeline import PipelineConfig
from journeyman.config.problems import DatasetProblems, GeneratedProblems, ProblemsConfig
from journeyman.config.rl import CriticConfig, CurriculumConfig, ProcessConfig, ReplayConfig, RlConfig, TreeRollouts
from journeyman.config.sft import OptimizerConfig, SftConfig
from journeyman.config.synthesize import SynthesizeConfig

__all__ = [
    "ComputeConfig",
    "CriticConfig",
    "CurateConfig",
    "CurriculumConfig",
    "DatasetProblems",
    "EvaluateConfig",
    "GeneratedProblems",
    "GrpoObjective",
    "ModelConfig",
    "NllObjective",
    "ObjectiveConfig",
    "OptimizerConfig",
    "PipelineConfig",
    "PretrainedModel",
    "ProblemsConfig",
    "ProcessConfig",
    "ReplayConfig",
    "RlConfig",
    "SamplerConfig",
    "ScratchModel",
    "SftConfig",
    "SynthesizeConfig",
    "TorchSampler",
    "TreeRollouts",
    "VllmSampler",
]
