from .lightning import LightningSteps as LightningSteps
from .trainer import TrainerSteps as TrainerSteps
