"""Behind the scores: single cases, attributes, levels of the hierarchy, ablation and scaling, and the data itself."""
