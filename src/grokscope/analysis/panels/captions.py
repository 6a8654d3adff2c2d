"""What panels say: units of quantities, and captions that cite definitions."""

from __future__ import annotations

KINDS = {
    "batch": "G = (1/B) Σ_b g_b g_bᵀ over the B mini-batch gradients of a pass that the optimizer "
    "used; with one batch its only eigenvalue is the squared gradient norm. Layers are its "
    "diagonal blocks.",
    "weight": "Γ Γᵀ of the gradient Γ with respect to each weight matrix; its eigenvalues are the "
    "squared singular values of Γ (Gupta et al. 2018, Shampoo). The whole is their "
    "block-diagonal sum.",
    "trajectory": "Mean outer product of the last recorded gradients that the optimizer used.",
    "sample": "G = (1/n) Σ_i g_i g_iᵀ over the gradients of single samples at a probe: the "
    "empirical Fisher matrix with true labels.",
    "input": "Average gradient outer product (AGOP) (1/n) Σ_i J(x_i)ᵀ J(x_i) with respect to "
    "inputs, and to the input of each layer (Radhakrishnan et al. 2024).",
}

METRICS = {  # name -> unit, and whether its axis is logarithmic
    "trace": ("trace = Σ λ", True),
    "spectral_norm": ("largest eigenvalue λ₁", True),
    "effective_rank": ("exp of the entropy of λ / Σ λ (directions)", False),
    "stable_rank": ("Σ λ / λ₁ (directions)", False),
    "participation_ratio": ("(Σ λ)² / Σ λ² (directions)", False),
    "rank": ("eigenvalues above 1e-6 of the largest, or as set", False),
    "top_k_cumulative_variance": ("share of the trace in the largest eigenvalues", False),
    "grad_norm": ("norm of the mean gradient", True),
    "grad_share": ("share of the squared gradient norm", False),
    "subspace_overlap": ("overlap with the last measured eigenspace, 0 to 1", False),
    "gradient_noise_scale": ("gradient noise scale (samples)", True),
    "gradient_coherence": ("coherence of per-sample gradients", True),
    "feature_ansatz": ("cos(WᵀW, G)", False),
    "feature_ansatz_root": ("cos(WᵀW, √G)", False),
    "frobenius_norm": ("Frobenius norm √Σ λ²", True),
    "nuclear_norm": ("nuclear norm Σ λ", True),
    "spectral_gap": ("λ₁ - λ₂", True),
    "condition_number": ("λ₁ / smallest eigenvalue above the threshold", True),
    "log_pseudo_determinant": ("Σ log λ over the rank", False),
    "determinant": ("determinant", True),
    "decay_exponent": ("exponent a of λ_k ∝ k⁻ᵃ", False),
    "decay_r_squared": ("R² of that fit", False),
    "eigenvalue_max": ("largest eigenvalue", True),
    "eigenvalue_min": ("smallest eigenvalue", True),
    "eigenvalue_mean": ("mean eigenvalue", True),
    "eigenvalue_std": ("standard deviation of the eigenvalues", True),
    "residual": ("error bound of estimated eigenvalues, relative", True),
    "n_gradients": ("gradients in the mean", False),
}

GROUPS = {  # group -> title, caption
    "numerics": (
        "Rounding",
        "absorbed: share of samples whose softmax denominator is its largest term in the loss's "
        "float type. collapsed: where that is the target's, so that loss and gradient are "
        "exactly zero (Prieto et al. 2025, arXiv 2501.04697). zero_sum: how far logit gradients "
        "are from adding up to zero. nlm_cosine: cosine of the gradient to -θ.",
    ),
    "weights": (
        "Weights",
        "Norm of each parameter, its distance from the first row and cosine with it.",
    ),
    "hessian": (
        "Curvature",
        "Largest eigenvalue of the Hessian of the training loss by Lanczos' method; the residual "
        "bounds its error.",
    ),
    "layers": (
        "Representations of layers",
        "CKA (Kornblith et al. 2019) between layers and of each with its first row; "
        "participation ratio (Σ λ)² / Σ λ² of their covariance.",
    ),
    "capacity": (
        "Manifold capacity of layers",
        "Mean-field capacity, radius and dimension of class manifolds (Chung, Lee, Sompolinsky "
        "2018; Cohen et al. 2020), correlations of centers removed.",
    ),
    "circuits": (
        "Fourier circuits",
        "Progress measures of Nanda et al. 2023 (arXiv 2301.05217), in float64. Key frequencies "
        "are found anew at each row unless the run fixes them.",
    ),
    "noise_floor": (
        "Noise floor",
        "Each quantity minus the same in float64: what of it is rounding.",
    ),
    "kernel": (
        "Neural tangent kernel",
        "Alignment with the labels, distance and change since the first row, velocity between "
        "rows (Fort et al. 2020; Kumar et al. 2023).",
    ),
    "glue": (
        "GLUE capacity of layers",
        "Capacity of class manifolds that depend on each other and on the task, with effective "
        "dimension, radius, utility and alignments (Chou et al., arXiv 2503.18114).",
    ),
    "simulated": (
        "Simulated capacity of layers",
        "Manifolds per dimension at which half of the random dichotomies are separable (Chung, "
        "Lee, Sompolinsky 2018).",
    ),
    "committee": (
        "Committee",
        "Exact test error and the parts that it is the sum of; norm and motion of the weights "
        "(Kumar et al. 2023, arXiv 2310.06110).",
    ),
    "complexity": (
        "Complexity",
        "Activation sparsity, absolute weight entropy and local circuit complexity (Golechha "
        "2024, arXiv 2405.12755), norm of all parameters.",
    ),
    "local_complexity": (
        "Local complexity",
        "Mean number of hidden units whose zero set crosses a small polytope around a point, for "
        "training, test and random points (Humayun et al. 2024, arXiv 2402.15555).",
    ),
    "adversarial": (
        "Adversarial accuracy",
        "Accuracy on samples that projected gradient descent has moved (Humayun et al. 2024).",
    ),
    "ipr": (
        "Inverse participation ratio",
        "How few frequencies a hidden unit's weights hold, 0 to 1 (Doshi et al. 2024, arXiv "
        "2310.13061).",
    ),
    "ticket": (
        "Lottery tickets",
        "Magnitude masks of the weights and their norms (Minegishi et al. 2023, arXiv "
        "2310.19470).",
    ),
    "slingshot": (
        "Slingshots",
        "Curvature along the coming step, its change of features, distance of the weights "
        "(Thilak et al. 2022, arXiv 2206.04817).",
    ),
    "sharpness": (
        "Sharpness",
        "Keskar's sharpness of the training loss in a random subspace, in percent (Power et al. "
        "2022, arXiv 2201.02177).",
    ),
    "classes": (
        "Classes",
        "Confusion matrix (rows are true classes, numbers of samples), and the right output "
        "minus the largest other, by class.",
    ),
}

Combination = tuple[tuple[str, ...], str, bool]
# group -> picture -> its curves, and whether the axis is logarithmic
COMBINED: dict[str, dict[str, Combination]] = {
    "circuits": {
        "losses": (
            ("loss_train", "loss_test", "restricted_loss_all", "excluded_loss_2d_train_all_key"),
            "cross entropy (nats)",
            True,
        ),
        "Gini coefficients": (
            ("gini_W_E_norms_per_frequency", "gini_W_L_norms_per_frequency"),
            "Gini coefficient of the norms by frequency",
            False,
        ),
        "sum of squared weights": (("sum_sq_weights_total",), "Σ w²", False),
    },
    "numerics": {
        "softmax": (("absorbed", "collapsed", "zero_sum"), "share", False),
    },
    "hessian": {
        "largest eigenvalue": (("top_eigenvalue", "residual"), "curvature (loss / weight²)", True),
    },
    "weights": {"whole net": (("norm", "distance"), "Euclidean norm", False)},
}
