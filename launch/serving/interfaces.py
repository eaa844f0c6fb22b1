"""The interfaces that the server offers, in the order in which /docs lists them."""

from launch.serving.chat import chat
from launch.serving.decisions import decisions
from launch.serving.member import member
from launch.serving.native import native
from launch.serving.nemo_gym import nemo_gym
from launch.serving.openrlhf import openrlhf
from launch.serving.protocol import Interface
from launch.serving.slime import slime
from launch.serving.systemone import systemone

INTERFACES: tuple[Interface, ...] = (native, member, openrlhf, slime, nemo_gym, chat, decisions, systemone)
