terraform {
  required_version = ">= 1.11"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

# Account and region come from the environment, as with every AWS tool: AWS_PROFILE, AWS_REGION.
provider "aws" {
  default_tags {
    tags = merge({ Project = local.project.name, Environment = var.environment }, var.tags)
  }
}

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}
